"""The run folders of a study as tidy files, which the analysis reads: `runs.csv`, `curves.csv.gz`, `correct.csv.gz`."""

import csv
import gzip
import io
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvformer.analysis.provenance import need_run_folders
from kvformer.analysis.quantities import quantity
from kvformer.analysis.study import Study, read_study
from kvformer.errors import DataError
from kvformer.files import atomic_writer, write_text
from kvformer.records.correct import Correct
from kvformer.records.metrics import MetricPoint, read_metrics
from kvformer.records.provenance import Provenance
from kvformer.records.run import RunFolder, Summary
from kvformer.records.study import RunEntry, judged_by

RUN_COLUMNS = [
    *("task", "family", "setting", "variant", "seed", "protocol", "status", "metric", "value", "goal", "primary"),
    *("parameters", "attention_parameters", "steps", "selected_step", "seconds", "stepping_seconds"),
    *("samples_per_second", "data_label", "data_source", "data_sha256", "git_commit", "git_dirty", "config_hash"),
    "path",
]
CURVE_COLUMNS = ["task", "setting", "variant", "seed", "metric", "step", "epoch", "elapsed", "value"]
CORRECT_COLUMNS = ["path", "split", "examples", "right", "scored"]
POINTS_PER_CURVE = 500
"""A longer curve keeps this many points, evenly spaced, first and last among them: the same steps for every variant."""

Found = tuple[RunEntry, Summary | None, dict[str, Any]]
"""An expected run, its summary if it came to an end, and the columns of runs.csv that hold for all of its metrics."""

logger = logging.getLogger(__name__)


def collect(results: Path) -> None:
    """Write `runs.csv`, `curves.csv.gz` and `correct.csv.gz` into `results` (a folder with `study.json`) from all runs
    that the study expects.

    The status of a run is that of `RunFolder.outcome`. The same folders give the same bytes.

    Raises:
        KvformerError: there is no readable `study.json`, or `results` is an exported copy.
    """
    need_run_folders(results)
    study = read_study(results)
    found = find(results, study)
    with gzip_text(results / "curves.csv.gz") as stream, gzip_text(results / "correct.csv.gz") as answers:
        curves = csv.writer(stream, lineterminator="\n")
        curves.writerow(CURVE_COLUMNS)
        correct = csv.writer(answers, lineterminator="\n")
        correct.writerow(CORRECT_COLUMNS)
        for run, summary, facts in found:
            folder = RunFolder(results / run.path)
            if summary:
                identity = [run.task, run.setting, run.variant, run.seed]
                curves.writerows(identity + point for point in curve_points(folder.metrics_file))
                if facts["status"] == "finished" and (record := Correct.read(folder.correct_file)):
                    correct.writerow([run.path, record.split, record.examples, record.right, record.scored])
    write_text(results / "runs.csv", run_table(study, found))


def find(results: Path, study: Study) -> list[Found]:
    """What became of each run of a study, in the study's order."""
    found: list[Found] = []
    for run in study.runs:
        folder = RunFolder(results / run.path)
        status, summary = folder.outcome(run.hash)
        facts = _facts(summary, folder.provenance() or Provenance()) if summary else {}
        found.append((run, summary, {"status": status, **facts}))
    return found


def run_table(study: Study, found: list[Found]) -> str:
    """The content of runs.csv: a row per run and metric."""
    table = io.StringIO()
    writer = csv.DictWriter(table, RUN_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    judged = judged_by(study.tasks.values(), ((run.task, summary) for run, summary, _ in found))
    for run, summary, facts in found:
        writer.writerows(_run_rows(run, study, judged[run.task].metric, summary.metrics if summary else {}, facts))
    return table.getvalue()


@contextmanager
def gzip_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """A compressed text file, written atomically; equal text gives equal bytes."""
    with (
        atomic_writer(path) as raw,
        # No name and no time in the header.
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        yield text


def _run_rows(
    run: RunEntry, study: Study, primary: str, metrics: dict[str, float], facts: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """One row per metric; always one for the primary metric, empty where the run did not reach it."""
    task = study.tasks[run.task]
    row = {"task": run.task, "family": task.family, "setting": run.setting, "variant": run.variant, "seed": run.seed}
    row |= {"protocol": study.configurations[run.task, run.setting]["protocol"], "config_hash": run.hash}
    row |= {"path": run.path, **facts}
    for metric, value in sorted({primary: "", **metrics}.items()):
        lower = task.goal == "min" if quantity(metric) == quantity(primary) else quantity(metric).falls
        goal = "min" if lower else "max"
        yield {**row, "metric": metric, "value": value, "goal": goal, "primary": metric == primary}


def _facts(summary: Summary, provenance: Provenance) -> dict[str, Any]:
    return {
        "protocol": summary.protocol,
        "parameters": summary.parameters.total,
        "attention_parameters": summary.parameters.attention,
        "steps": summary.steps,
        "selected_step": summary.selected_step,
        "seconds": summary.seconds.get("total"),
        "stepping_seconds": summary.seconds.get("stepping"),
        "samples_per_second": summary.samples_per_second,
        "data_label": "; ".join(record.label for record in summary.data),
        "data_source": "; ".join(record.source for record in summary.data),
        "data_sha256": "; ".join(record.sha256 for record in summary.data),
        "git_commit": provenance.git.commit,
        "git_dirty": provenance.git.dirty,
    }


def curve_points(path: Path) -> Iterator[list[Any]]:
    """The rows `metric, step, epoch, elapsed, value` of a metrics file: curve by curve, in the order of the steps.

    Points after a damaged line are left out, with a warning.
    """
    curves: dict[str, list[MetricPoint]] = {}
    try:
        for point in read_metrics(path):
            curves.setdefault(point.key, []).append(point)
    except DataError as error:
        logger.warning("%s; the rest of the file is left out", error)
    for key in sorted(curves):
        yield from ([key, point.step, point.epoch, point.elapsed, point.value] for point in _thin(curves[key]))


def _thin(points: list[MetricPoint]) -> list[MetricPoint]:
    if len(points) <= POINTS_PER_CURVE:
        return points
    stride = (len(points) - 1) / (POINTS_PER_CURVE - 1)
    return [points[math.floor(index * stride + 0.5)] for index in range(POINTS_PER_CURVE)]
