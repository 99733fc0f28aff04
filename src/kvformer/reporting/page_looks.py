"""The banner of a study in the middle of its looks: where it stands, what is final, and what comes next."""

from dataclasses import dataclass

from kvformer.records.study import looks_taken
from kvformer.reporting.panels import hours_of, planned
from kvformer.reporting.verdicts import Verdicts
from kvformer.reporting.wording import SPACE, count


@dataclass(frozen=True)
class Banner:
    """steps: seeds at each look. now: the last look that was taken, from 1."""

    steps: list[int]
    now: int
    words: str


def banner(verdicts: Verdicts) -> Banner | None:
    """None where the seeds are fixed, or all looks that were needed have been taken."""
    manifest = verdicts.study.manifest
    taken = looks_taken(verdicts.results.folder, manifest) if manifest.looks else []
    if not manifest.looks or (taken and (not taken[-1].open or len(taken) == len(manifest.looks))):
        return None
    steps, now = manifest.looks, len(taken)
    words = [
        f"**Look {now} of {len(steps)}**: {steps[now - 1]} of up to {steps[-1]} seeds."
        if now
        else f"**Before the first of {len(steps)} looks**, at {steps[0]} seeds.",
        "What is decided is final; “undecided”, “leaning” and “not worse” may still change.",
        f"Intervals are wider than 95{SPACE}% ones, so that they hold at every look.",
    ]
    rows = planned(verdicts.results)
    rows = rows[rows["seeds"] == steps[now]]
    if now:
        cost = f", about {hours_of(rows):.1f} core-hours to the next look" if len(rows) else ""
        words.append(f"{count(len(taken[-1].open), 'comparison gets', 'comparisons get')} more seeds{cost}.")
    return Banner(steps, now, " ".join(words))
