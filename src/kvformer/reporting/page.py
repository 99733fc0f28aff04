"""report.html: the study on one self-contained page, verdict first, that opens offline in any browser."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import jinja2

from kvformer.analysis import provenance
from kvformer.analysis.quantities import quantity
from kvformer.analysis.results import Results
from kvformer.analysis.study import Study
from kvformer.files import write_text
from kvformer.records.run import RunFolder
from kvformer.reporting.captions import FIGURES
from kvformer.reporting.cells import signed
from kvformer.reporting.sentences import findings
from kvformer.reporting.style import PNG_DPI
from kvformer.reporting.tables import study_tables

CSS_DPI = 96
SAMPLE_LENGTH = 700
"""Characters of a generated sample that are shown."""
REASON_LENGTH = 300
MARKS = {"better": "▲", "worse": "▼", "equivalent": "=", "undecided": "?", "both solve": "✓", "not worse": "≥"}
MARKS |= {"leaning better": "△", "leaning worse": "▽"}


def write_report(results: Results, lock: Path | None = None) -> Path:
    """Write report.html into the study's folder; returns its path.

    Figures are those in its folder `figures`, samples those of its run folders. lock: the requirements file with which
    the packages that ran are compared; by default the nearest requirements.lock. The same files give the same bytes.

    Raises:
        KvformerError: the lock is malformed.
    """
    study = results.study
    lock = lock or provenance.find_lock(results.folder)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kvformer.reporting", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html.j2").render(
        study=study,
        folder=results.folder,
        counts=results.counts.set_index("status")["runs"].to_dict(),
        total=int(results.counts["runs"].sum()),
        hours=float(results.counts["seconds"].sum()) / 3600,
        sentences=findings(results),
        glance=_glance(results),
        tables={table.name: table for table in study_tables(results)},
        figures={kind: _pictures(results.folder / "figures", kind, study) for kind in FIGURES},
        titles={kind: title for kind, (title, _) in FIGURES.items()},
        captions={kind: caption for kind, (_, caption) in FIGURES.items()},
        samples=_samples(results),
        lost=results.incomplete.assign(reason=results.incomplete["reason"].str[:REASON_LENGTH]).to_dict("records"),
        facts=dict(results.facts.itertuples(index=False, name=None)),
        packages=provenance.compare_with_lock(results.packages.itertuples(index=False, name=None), lock),
        lock=lock.name if lock else None,
    )
    path = results.folder / "report.html"
    write_text(path, page)
    return path


def _glance(results: Results) -> list[dict[str, Any]]:
    """The verdicts as a table: one row per task with the difference, interval and word for each variant."""
    rows = []
    for task, own in results.paired.groupby("task", sort=False):
        what = quantity(own["metric"].iloc[0])
        cells = {}
        for row in own.to_dict("records"):
            difference, low, high = (
                signed(what.scale * row[name], what.step_decimals).replace("-", "−")
                for name in ("difference", "low", "high")
            )
            cells[row["variant"]] = {
                "difference": difference,
                "interval": f"{low} to {high}" if low else "",
                "verdict": row["verdict"] if row["n"] else "no pair",
                "mark": MARKS.get(row["verdict"], "") if row["n"] else "",
                "n": row["n"],
            }
        rows.append({"task": results.study.label(str(task)), "unit": what.step, "cells": cells})
    return rows


def _pictures(folder: Path, kind: str, study: Study) -> list[dict[str, Any]]:
    """The drawn figures of a kind, families and tasks in the study's order: the PNG inline, sizes in CSS pixels."""
    order = [*study.families, *study.tasks]
    found = {path.stem.removeprefix(f"{kind}-"): path for path in sorted(folder.glob(f"{kind}-*.png"))}
    names = [name for name in order if name in found] + [name for name in found if name not in order]
    pictures = []
    for name in names:
        content = found[name].read_bytes()
        width, height = (int.from_bytes(content[start : start + 4]) for start in (16, 20))  # of the PNG header
        label = study.label(name) if name in study.tasks else name.capitalize()
        pictures.append(
            {"name": found[name].stem, "alt": f"{FIGURES[kind][0]}: {label}"}
            | {"uri": "data:image/png;base64," + b64encode(content).decode()}
            | {"width": round(width * CSS_DPI / PNG_DPI), "height": round(height * CSS_DPI / PNG_DPI)}
        )
    return pictures


def _samples(results: Results) -> dict[str, list[dict[str, str]]]:
    """Per task, what the first run of each variant has generated."""
    samples: dict[str, dict[str, dict[str, str]]] = {}
    for run in results.study.runs:
        own = samples.setdefault(results.study.label(run.task), {})
        if run.variant in own or not (written := RunFolder(results.folder / run.path).samples()):
            continue
        prompt, text = (str(written[0].get(key, "")) for key in ("prompt", "text"))
        # A continuation may repeat its prompt.
        text = text.removeprefix(prompt)[:SAMPLE_LENGTH]
        own[run.variant] = {"variant": run.variant, "prompt": prompt, "text": text}
    return {task: list(own.values()) for task, own in samples.items() if own}
