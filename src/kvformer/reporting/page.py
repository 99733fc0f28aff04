"""report.html: the study on one self-contained page, verdict first, that opens offline in any browser."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from kvformer.analysis import comparisons, nuisance, provenance
from kvformer.analysis.frames import load_runs, scores, usable
from kvformer.analysis.quantities import quantity
from kvformer.analysis.study import Study, read_study
from kvformer.files import read_json, write_text
from kvformer.reporting.figures import KINDS, Kind
from kvformer.reporting.render import Table, signed
from kvformer.reporting.sentences import verdicts
from kvformer.reporting.style import PNG_DPI
from kvformer.reporting.tables import study_tables

CSS_DPI = 96
SAMPLE_LENGTH = 700
"""Characters of a generated sample that are shown."""
REASON_LENGTH = 300
MARKS = {"better": "▲", "worse": "▼", "equivalent": "=", "undecided": "?"}


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its PNG inline, and its size in CSS pixels."""

    name: str
    alt: str
    uri: str
    width: int
    height: int


def write_report(results: Path, lock: Path | None = None) -> Path:
    """Write results/report.html from the study's tables, figures and run folders; returns its path.

    Figures are those in results/figures (`write_figures` draws them). lock: the requirements file that running
    packages are held against; by default the nearest requirements.lock. The same files give the same bytes.

    Raises:
        KvformerError: study.json or runs.csv is absent or malformed, or the lock is.
    """
    study, runs = read_study(results), load_runs(results)
    records = provenance.load_provenance(results, study)
    lock = lock or provenance.find_lock(results)
    tables = {table.name: table for table in study_tables(results)}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kvformer.reporting", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    raw = scores(runs)
    page = environment.get_template("report.html.j2").render(
        study=study,
        folder=results,
        counts=raw["status"].value_counts().sort_index().to_dict(),
        total=len(raw),
        counted=len(usable(raw)),
        hours=float(raw["seconds"].sum()) / 3600,
        sentences=verdicts(results),
        glance=_glance(nuisance.select(runs, study)[0], study),
        families=list(dict.fromkeys(task["family"] for task in study.tasks.values())),
        tables=tables,
        figures={kind.name: _pictures(results / "figures", kind, study) for kind in KINDS},
        kinds={kind.name: kind for kind in KINDS},
        samples=_samples(results, study),
        lost=_lost(results, tables["incomplete"]),
        facts=provenance.facts(records),
        packages=provenance.packages(records, lock),
        lock=lock.name if lock else None,
    )
    path = results / "report.html"
    write_text(path, page)
    return path


def _glance(frame: Any, study: Study) -> list[dict[str, Any]]:
    """The verdicts as a table: a row for each task, in it the difference, interval and word for each variant."""
    table = comparisons.paired_differences(frame, study)
    rows = []
    for task in study.tasks:
        own = table[table["task"] == task] if len(table) else table
        if own.empty:
            continue
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
                "n": int(row["n"]),
            }
        rows.append({"task": study.label(task), "unit": what.step, "cells": cells})
    return rows


def _pictures(folder: Path, kind: Kind, study: Study) -> list[Picture]:
    """The drawn figures of a kind, tasks and families in the study's order."""
    order = [*dict.fromkeys(task["family"] for task in study.tasks.values()), *study.tasks]
    found = {path.stem.removeprefix(f"{kind.name}-"): path for path in sorted(folder.glob(f"{kind.name}-*.png"))}
    names = [name for name in order if name in found] + [name for name in found if name not in order]
    pictures = []
    for name in names:
        content = found[name].read_bytes()
        width, height = (int.from_bytes(content[start : start + 4]) for start in (16, 20))  # of the PNG header
        label = study.label(name) if name in study.tasks else name.capitalize()
        pictures.append(
            Picture(
                name=found[name].stem,
                alt=f"{kind.title}: {label}",
                uri="data:image/png;base64," + b64encode(content).decode(),
                width=round(width * CSS_DPI / PNG_DPI),
                height=round(height * CSS_DPI / PNG_DPI),
            )
        )
    return pictures


def _samples(results: Path, study: Study) -> dict[str, list[dict[str, str]]]:
    """Per task, what the first run of each variant has generated."""
    samples: dict[str, dict[str, dict[str, str]]] = {}
    for run in study.runs:
        own = samples.setdefault(study.label(run["task"]), {})
        if run["variant"] in own:
            continue
        try:
            content = read_json(results / run["path"] / "samples.json")
        except (OSError, ValueError):
            continue
        if content:
            prompt, text = str(content[0].get("prompt", "")), str(content[0].get("text", ""))
            own[run["variant"]] = {
                "variant": run["variant"],
                "path": run["path"],
                "prompt": prompt,
                # A continuation may repeat its prompt.
                "text": text.removeprefix(prompt)[:SAMPLE_LENGTH],
            }
    return {task: list(own.values()) for task, own in samples.items() if own}


def _lost(results: Path, incomplete: Table) -> list[dict[str, str]]:
    """The runs that do not count, each with what its failure.json says."""
    rows = []
    for row in incomplete.frame.to_dict("records"):
        try:
            failure = read_json(results / row["path"] / "failure.json")
            reason = f"{failure['type']}: {failure['error']}"[:REASON_LENGTH]
        except (OSError, ValueError, KeyError, TypeError):
            reason = ""
        rows.append({**{str(key): str(value) for key, value in row.items()}, "reason": reason})
    return rows
