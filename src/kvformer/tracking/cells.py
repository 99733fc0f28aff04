"""One run of MLflow per cell (task × setting × variant): what its seeds say together."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import Any

from kvformer.errors import DataError
from kvformer.records.metrics import MetricPoint
from kvformer.records.run import NOT_STARTED
from kvformer.records.study import RunEntry, StudyManifest
from kvformer.tracking.entries import METRIC, Entry, Points, Source, digest, parameters, planned, texts
from kvformer.tracking.ownership import NOTE

NAME = "{task}/{setting}/{variant}"
ENDED = ("finished", "diverged", "failed", NOT_STARTED)


@dataclass
class Cell:
    """What is known of a cell. statuses: of its seeds. The numbers are NaN where no seed has one."""

    statuses: list[str] = field(default_factory=list)
    metric: str = ""
    n: int = 0
    mean: float = nan
    low: float = nan
    high: float = nan
    verdict: str = ""

    @property
    def complete(self) -> bool:
        """Whether every seed has come to an end."""
        return all(status in ENDED for status in self.statuses)

    def __str__(self) -> str:
        interval = f" [{self.low:.4g}, {self.high:.4g}]" if isfinite(self.low) else ""
        return f"{self.mean:.4g}{interval}, n = {self.n}" if self.n else ""


def read_cells(study: Path) -> dict[str, Cell]:
    """The cells of a study by name, with the statistics of the report, at every setting.

    They are computed from the run folders as they are now, so that they fit the runs next to them also while the study
    goes on.
    """
    from kvformer.analysis.frames import current_scores
    from kvformer.analysis.study import read_study

    described = read_study(study)
    scores = current_scores(study, described)
    cells: dict[str, Cell] = {}
    for row in scores.to_dict("records"):
        cells.setdefault(NAME.format_map(row), Cell(metric=row["metric"])).statuses.append(row["status"])
    if "finished" not in set(scores["status"]):
        return cells

    from kvformer.analysis.comparisons import summarise
    from kvformer.analysis.decisions import paired_differences

    for row in summarise(scores, described, by_setting=True).to_dict("records"):
        cell = cells[NAME.format_map(row)]
        cell.n, cell.mean, cell.low, cell.high = (row[name] for name in ("n", "mean", "low", "high"))
        cell.verdict = "baseline" if row["variant"] == described.baseline else ""
    for row in paired_differences(scores, described, by_setting=True).to_dict("records"):
        cells[NAME.format_map(row)].verdict = row["verdict"]
    return cells


def cells_state(plan: str, runs: list[Source], shown: list[Source]) -> str:
    """Changes whenever a cell of the study may look different. The points of a run in progress change none.

    plan: digest of the study's plan.
    """
    known = {source.name for source in shown}
    states = [
        f"{run.name} {run.signature if run.state in ('done', 'failed') else run.state} {run.name in known}"
        for run in runs
    ]
    return digest("\n".join([plan, *states]))


def cell_sources(study: Path, manifest: StudyManifest, runs: list[Source], shown: list[Source]) -> list[Source]:
    """The cells of which at least one run is shown. runs: all runs of the study, in its order."""
    cells, settings = read_cells(study), manifest.sections
    members: dict[str, list[tuple[RunEntry, Source]]] = {}
    for run, source in zip(manifest.runs, runs, strict=True):
        members.setdefault(source.parent, []).append((run, source))
    sources = []
    for name in dict.fromkeys(source.parent for source in shown):
        cell, run = cells[name], members[name][0][0]
        seeds = [source for _, source in members[name]]
        cell.statuses = [
            seed.state if seed.state == "running" else status for seed, status in zip(seeds, cell.statuses, strict=True)
        ]
        ended = [seed.signature for seed in seeds if seed.state in ("done", "failed")]
        configuration = planned(run, settings.get((run.task, run.setting)))
        del configuration["seed"]
        read = partial(_read_cell, name, cell, seeds, configuration, manifest.baseline)
        sources.append(Source(name, "cell", digest(f"{cell!r} {configuration} {ended}"), read))
    return sources


def _read_cell(name: str, cell: Cell, seeds: list[Source], configuration: dict[str, Any], baseline: str) -> Entry:
    entries = []
    for seed in seeds:
        with suppress(DataError, FileNotFoundError):  # told when the run itself is ingested
            entries += [seed.read()] if seed.state != "missing" else []
    finished = [entry for entry in entries if entry.tags["status"] == "finished" and entry.tags["current"] == "true"]
    ends = [entry.end for entry in entries if entry.end]
    counts = ", ".join(f"{count} {status}" for status, count in Counter(cell.statuses).items())
    origin = {key: finished[0].tags.get(key) for key in ("family", "protocol")} if finished else {}
    tags = {
        "result": str(cell),
        "verdict": cell.verdict,
        "seeds": counts,
        "complete": cell.complete,
        "kind": "cell",
        **{key: configuration.get(key) for key in ("task", "setting", "variant")},
        **origin,
        "primary_metric": cell.metric,
        "current": True,
        "mlflow.source.name": "kvformer",
        NOTE: _note(cell, counts, baseline),
    }
    metric = cell.metric
    numbers = {metric: cell.mean, f"{metric}_low": cell.low, f"{metric}_high": cell.high, "n": cell.n}
    return Entry(
        name=name,
        key=f"{name}@cell",
        status="RUNNING" if not cell.complete else "FINISHED" if cell.n else "FAILED",
        complete=True,
        start=min((entry.start for entry in entries), default=0),
        end=max(ends) if cell.complete and ends else None,
        tags=texts(tags),
        params=parameters(configuration),
        points=_mean_points([entry.points for entry in finished]) if cell.complete else {},
        numbers={f"cell/{key}": value for key, value in numbers.items() if isfinite(value) and METRIC.fullmatch(key)},
        data=[data for entry in finished for data in entry.data],
    )


def _mean_points(seeds: list[Points]) -> Points:
    """The mean over seeds of every number that all of them have, at the latest of their times."""
    means: Points = {}
    for place in seeds[0] if seeds else ():
        if all(place in points for points in seeds):
            found = [points[place] for points in seeds]
            value = sum(point.value for point in found) / len(found)
            means[place] = MetricPoint(*place, value, time=max(point.time or 0 for point in found))
    return means


def _note(cell: Cell, counts: str, baseline: str) -> str:
    """The description of a cell."""
    verdict = {"": "", "baseline": " The other variants are compared with this one."}.get(
        cell.verdict, f" Compared with {baseline}: **{cell.verdict}**."
    )
    result = f"{cell.metric}: **{cell}** (mean over seeds, 95 % interval).{verdict}" if cell.n else "No result yet."
    curves = "Curves and other metrics are means over the finished seeds."
    return (
        f"{result}\n\nSeeds: {counts}. {curves if cell.complete else 'Incomplete: curves follow when all have ended.'}"
    )
