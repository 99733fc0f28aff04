"""README: the verdict of a study in a few sentences, and its picture by day and by night."""

from collections.abc import Iterator
from pathlib import Path

from kvformer.reporting.answers import answers
from kvformer.reporting.headline import headline
from kvformer.reporting.verdict_figure import THEMES, verdict_figure
from kvformer.reporting.verdicts import Verdicts
from kvformer.reporting.wording import SPACE
from tools.numbers.results import ROOT, study
from tools.numbers.values import thousands

SHOWN = "reference"
"""The study whose picture is drawn."""


def answer() -> str:
    """README: the picture, the headline of the report, and what it rests on."""
    found = study(SHOWN)
    verdicts = Verdicts(found.report)
    told = {item.question: item.answer.replace("**", "") for item in answers(verdicts)}
    counts = f"{len(found.study.variants)} variants, {len(verdicts.tasks)} tasks, {verdicts.pairs_said} seeds"
    still = f"{len(verdicts.open)} of {len(verdicts.below)} comparisons below the ceiling are open"
    sentences = [
        f"**{headline(verdicts)}**",
        told.get("Which sharing is safe?", ""),
        told.get("What does it save?", "").replace(": ", " saves ", 1),
        f"{counts}, {thousands(found.finished)} runs; at this training length {still}.",
    ]
    compared = f"{len(verdicts.variants)} variants compared with {verdicts.baseline}"
    alt = f"{compared}: mean difference with interval, verdict on each of {len(verdicts.tasks)} tasks, cost saved"
    picture = (
        '<picture><source media="(prefers-color-scheme: dark)" srcset="docs/verdict-dark.svg">'
        f'<img src="docs/verdict-light.svg" alt="{alt}"></picture>'
    )
    return f"{picture}\n\n{' '.join(filter(None, sentences))}".replace(SPACE, " ")


def pictures() -> Iterator[tuple[Path, str]]:
    """The pictures of `answer`: path and content."""
    for theme in THEMES:
        yield ROOT / "docs" / f"verdict-{theme}.svg", verdict_figure(study(SHOWN).report, theme)
