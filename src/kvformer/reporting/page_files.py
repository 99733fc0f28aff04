"""What the page takes from the study's folder: figures, drawn before, and generated samples."""

from base64 import b64encode
from pathlib import Path
from typing import Any

from kvformer.analysis.results import Results
from kvformer.analysis.study import Study
from kvformer.records.run import RunFolder
from kvformer.reporting.captions import FIGURES
from kvformer.reporting.style import PNG_DPI

CSS_DPI = 96
SAMPLE_LENGTH = 700
"""Characters of a generated sample that are shown."""


def png_uri(content: bytes) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + b64encode(content).decode()


def pictures(folder: Path, kind: str, study: Study) -> list[dict[str, Any]]:
    """The drawn figures of a kind, families and tasks in the study's order: the PNG inline, sizes in CSS pixels."""
    order = [*study.families, *study.tasks]
    found = {path.stem.removeprefix(f"{kind}-"): path for path in sorted(folder.glob(f"{kind}-*.png"))}
    names = [name for name in order if name in found] + [name for name in found if name not in order]
    drawn = []
    for name in names:
        content = found[name].read_bytes()
        width, height = (int.from_bytes(content[start : start + 4]) for start in (16, 20))  # of the PNG header
        label = study.label(name) if name in study.tasks else name.capitalize()
        drawn.append(
            {
                "name": found[name].stem,
                "alt": f"{FIGURES[kind][0]}: {label}",
                "uri": png_uri(content),
                "width": round(width * CSS_DPI / PNG_DPI),
                "height": round(height * CSS_DPI / PNG_DPI),
            }
        )
    return drawn


def samples(results: Results) -> dict[str, list[dict[str, str]]]:
    """Per task, what the first run of each variant has generated."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for run in results.study.runs:
        own = found.setdefault(results.study.label(run.task), {})
        if run.variant in own or not (written := RunFolder(results.folder / run.path).samples()):
            continue
        prompt, text = (str(written[0].get(key, "")) for key in ("prompt", "text"))
        # A continuation may repeat its prompt.
        text = text.removeprefix(prompt)[:SAMPLE_LENGTH]
        own[run.variant] = {"variant": run.variant, "prompt": prompt, "text": text}
    return {task: list(own.values()) for task, own in found.items() if own}
