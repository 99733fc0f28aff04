"""The run folders of a study as two tidy files, `runs.csv` and `curves.csv.gz`: what tables and figures come from."""

import csv
import gzip
import io
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvformer.analysis.quantities import quantity
from kvformer.analysis.study import Study, read_study
from kvformer.files import atomic_writer, read_json, read_jsonl, write_text
from kvformer.records.run import NOT_STARTED

RUN_COLUMNS = [
    *("task", "family", "setting", "variant", "seed", "protocol", "status", "metric", "value", "goal", "primary"),
    *(
        "parameters",
        "attention_parameters",
        "steps",
        "selected_step",
        "seconds",
        "stepping_seconds",
        "samples_per_second",
    ),
    *("data_label", "data_source", "data_sha256", "git_commit", "git_dirty", "config_hash", "path"),
]
CURVE_COLUMNS = ["task", "setting", "variant", "seed", "metric", "step", "epoch", "elapsed", "value"]
POINTS_PER_CURVE = 500
"""A longer curve keeps this many points, evenly spaced, first and last among them: the same steps for every variant."""

logger = logging.getLogger(__name__)


def collect(results: Path) -> None:
    """Write `runs.csv` and `curves.csv.gz` into `results` (a folder with `study.json`) from all runs the study expects.

    A run is `finished` or `diverged` by its summary, `stale` when its folder belongs to another configuration, `failed`
    when it left `failure.json` or a damaged summary, `missing` when it left neither. Same folders, same bytes.

    Raises:
        KvformerError: there is no readable `study.json`.
    """
    study = read_study(results)
    outcomes = []
    with (
        atomic_writer(results / "curves.csv.gz") as raw,
        # No name and no time in the gzip header: equal curves are equal files.
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        curves = csv.writer(text, lineterminator="\n")
        curves.writerow(CURVE_COLUMNS)
        for run in study.runs:
            folder = results / run["path"]
            status, summary = _outcome(folder, run["hash"])
            facts = _facts(summary, _read_object(folder / "provenance.json") or {}) if summary else {}
            outcomes.append((run, status, summary, facts))
            if status in ("finished", "diverged"):
                identity = [run["task"], run["setting"], run["variant"], run["seed"]]
                curves.writerows(identity + point for point in curve_points(folder / "metrics.jsonl"))
    table = io.StringIO()
    writer = csv.DictWriter(table, RUN_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    judged = _judged_by(study, [(run["task"], summary) for run, _, summary, _ in outcomes])
    for run, status, summary, facts in outcomes:
        writer.writerows(_run_rows(run, study, judged[run["task"]], status, summary, facts))
    write_text(results / "runs.csv", table.getvalue())


def _outcome(folder: Path, expected_hash: str) -> tuple[str, dict[str, Any]]:
    """The status of a run folder and its summary (empty unless finished or diverged)."""
    summary = _read_object(folder / "summary.json")
    if summary is not None and isinstance(summary.get("metrics"), dict) and "status" in summary:
        return (summary["status"], summary) if summary.get("config_hash") == expected_hash else ("stale", {})
    config = _read_object(folder / "config.json")
    if config and config.get("hash", expected_hash) != expected_hash:
        return "stale", {}
    failure = _read_object(folder / "failure.json")
    if failure is not None and failure.get("type") == NOT_STARTED:
        return "not started", {}
    if (folder / "summary.json").exists() or (folder / "failure.json").exists():
        return "failed", {}
    return "missing", {}


def _read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where the file is absent, damaged or something else."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _run_rows(
    run: dict[str, Any], study: Study, primary: str, status: str, summary: dict[str, Any], facts: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """One row a metric; always one for the primary metric, empty where the run did not reach it."""
    row = {key: run[key] for key in ("task", "setting", "variant", "seed", "path")}
    task = study.tasks[run["task"]]
    protocol = study.configurations[run["task"], run["setting"]]["protocol"]
    row |= {"family": task["family"], "protocol": protocol, "status": status, "config_hash": run["hash"], **facts}
    for metric, value in sorted({primary: "", **summary.get("metrics", {})}.items()):
        lower = task["goal"] == "min" if quantity(metric) == quantity(primary) else quantity(metric).falls
        goal = "min" if lower else "max"
        yield row | {"metric": metric, "value": value, "goal": goal, "primary": metric == primary}


def _judged_by(study: Study, summaries: list[tuple[str, dict[str, Any]]]) -> dict[str, str]:
    """The metric key of each task, with its split: as its runs say, and the test split's where no run came so far."""
    judged = {
        name: task["metric"] if "/" in task["metric"] else f"test/{task['metric']}"
        for name, task in study.tasks.items()
    }
    for task, summary in reversed(summaries):
        judged[task] = (summary.get("primary") or {}).get("metric", judged[task])
    return judged


def _facts(summary: dict[str, Any], provenance: dict[str, Any]) -> dict[str, Any]:
    parameters, seconds = summary.get("parameters") or {}, summary.get("seconds") or {}
    data, git = summary.get("data") or [], provenance.get("git") or {}
    return {
        "protocol": summary.get("protocol", ""),
        "parameters": parameters.get("total", ""),
        "attention_parameters": parameters.get("attention", ""),
        "steps": summary.get("steps", ""),
        "selected_step": summary.get("selected_step", ""),
        "seconds": seconds.get("total", ""),
        "stepping_seconds": seconds.get("stepping", ""),
        "samples_per_second": summary.get("samples_per_second", ""),
        "data_label": "; ".join(str(item.get("label", "")) for item in data),
        "data_source": "; ".join(str(item.get("source", "")) for item in data),
        "data_sha256": "; ".join(str(item.get("sha256", "")) for item in data),
        "git_commit": git.get("commit", ""),
        "git_dirty": git.get("dirty", ""),
    }


def curve_points(path: Path) -> Iterator[list[Any]]:
    """The rows `metric, step, epoch, elapsed, value` of a metrics file: curve by curve, in the order of the steps."""
    curves: dict[str, list[list[Any]]] = {}
    for point in _readable(path):
        curve = curves.setdefault(point["key"], [])
        curve.append([point["key"], point["step"], point.get("epoch", ""), point.get("elapsed", ""), point["value"]])
    for key in sorted(curves):
        yield from _thin(curves[key])


def _readable(path: Path) -> Iterator[dict[str, Any]]:
    """The points before the first damaged line, if there is one."""
    try:
        for point in read_jsonl(path):
            if not {"key", "step", "value"} <= point.keys():
                raise ValueError(f"a point without key, step or value: {point}")
            yield point
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("%s: the rest of the file is not readable (%s)", path, error)


def _thin(points: list[list[Any]]) -> list[list[Any]]:
    if len(points) <= POINTS_PER_CURVE:
        return points
    stride = (len(points) - 1) / (POINTS_PER_CURVE - 1)
    return [points[math.floor(index * stride + 0.5)] for index in range(POINTS_PER_CURVE)]
