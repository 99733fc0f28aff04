"""Run folders as plain data: what is on disk, and what MLflow is to show of it. Knows no MLflow."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kvformer.errors import DataError
from kvformer.files import canonical_json, read_json, read_jsonl

State = Literal["done", "failed", "running", "missing"]

ARTIFACTS: dict[State, tuple[str, ...]] = {
    "done": ("config.json", "summary.json", "provenance.json", "samples.json", "attention.npz"),
    "failed": ("failure.json",),
    "running": (),
    "missing": (),
}
RUN_ARTIFACTS = (*ARTIFACTS["done"], *ARTIFACTS["failed"])
STUDY_ARTIFACTS = ("study.json", "runs.csv", "curves.csv.gz", "profile.csv", "report.html", "ro-crate-metadata.json")
STUDY_FOLDERS = ("tables", "figures")
PROGRESS = "progress/metrics.jsonl"
WATCHED = (*RUN_ARTIFACTS, "metrics.jsonl", PROGRESS)
RUN_PATH = re.compile(r"runs/[\w.-]+/[\w.-]+/[\w.-]+/seed\d+")
METRIC = re.compile(r"[\w.:/ -]{1,250}")
LONGEST = 5000  # characters that MLflow accepts in a tag; a parameter may have 6000


class Point(NamedTuple):
    """One value of a curve; `time` is Unix time in milliseconds."""

    key: str
    step: int
    value: float
    time: int


@dataclass(frozen=True)
class Record:
    """What MLflow shows of one run. Times are Unix times in milliseconds; `complete` says that no point will follow."""

    name: str
    key: str
    status: Literal["FINISHED", "FAILED", "RUNNING"]
    complete: bool
    start: int
    end: int | None
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFolder:
    """A run's folder as a look at its directory shows it. `signature` changes whenever a file of it does.

    `plan` is the configuration that the study has for it: with `hash`, where there is a study.json, else empty.
    """

    path: Path
    name: str
    state: State
    signature: str
    plan: dict[str, Any] = field(default_factory=dict)


def study_runs(study: Path) -> list[RunFolder]:
    """The runs of a study: those that its study.json lists, or without one those that are there. Raises DataError."""
    manifest = study / "study.json"
    if not manifest.exists():
        found = {path: path.relative_to(study).as_posix() for path in sorted(study.glob("runs/*/*/*/seed*"))}
        return [_look(path, relative, {}) for path, relative in found.items() if RUN_PATH.fullmatch(relative)]
    try:
        plans = _plans(read_json(manifest))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{manifest}: not a study's description ({type(error).__name__}: {error})") from None
    for path in plans:
        if not RUN_PATH.fullmatch(path):
            raise DataError(f"{manifest}: path {path!r}, must be runs/<task>/<setting>/<variant>/seed<k>")
    return [_look(study / path, path, plan) for path, plan in plans.items()]


def _plans(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Configuration by path: what a run's own config.json says only when the run has ended."""
    sections = {(entry["task"], entry["setting"]): entry for entry in content.get("settings", [])}
    return {
        str(entry["path"]): sections.get((entry.get("task"), entry.get("setting")), {})
        | {key: value for key, value in entry.items() if key != "path"}
        | {"hash": str(entry["hash"])}
        for entry in content["runs"]
    }


def _look(path: Path, relative: str, plan: dict[str, Any]) -> RunFolder:
    seen: dict[str, os.stat_result] = {}
    for name in WATCHED:
        try:
            seen[name] = (path / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
    state: State = "missing"
    if "summary.json" in seen:
        state = "done"
    elif "failure.json" in seen:
        # A retry writes new points after the failure of the attempt before.
        retried = PROGRESS in seen and seen[PROGRESS].st_mtime_ns > seen["failure.json"].st_mtime_ns
        state = "running" if retried else "failed"
    elif PROGRESS in seen:
        state = "running"
    return RunFolder(path, relative.removeprefix("runs/"), state, _signature(seen, plan.get("hash", "")), plan)


def _signature(seen: dict[str, os.stat_result], also: str) -> str:
    text = "".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}\n" for name, stat in seen.items())
    return hashlib.sha256((text + also).encode()).hexdigest()[:16]


def read_run(folder: RunFolder) -> Record:
    """Read a run's files. Raises DataError naming the file that cannot be understood."""
    try:
        return _read_run(folder)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{folder.path}: not a run's records ({type(error).__name__}: {error})") from None


def _read_run(folder: RunFolder) -> Record:
    path = folder.path
    # A run that has not ended may lie beside the files of an earlier execution.
    done = folder.state == "done"
    config = _json(path / "config.json") if done else folder.plan
    summary = _json(path / "summary.json") if done else {}
    provenance = _json(path / "provenance.json") if done else {}
    failure = _json(path / "failure.json") if folder.state == "failed" else {}
    digest = config.get("hash") or summary.get("config_hash")
    if digest is None:
        raise DataError(f"{path}: {folder.state}, and neither config.json nor study.json has its configuration's hash")
    points = _points(path / ("metrics.jsonl" if done else PROGRESS))
    end: int | None = None
    if done:
        end = _time(provenance.get("end"), _milliseconds(path / "summary.json"))
        label, status = ("diverged", "FAILED") if summary.get("status") == "diverged" else ("finished", "FINISHED")
    elif folder.state == "failed":
        end = _time(failure.get("time"), _milliseconds(path / "failure.json"))
        label, status = "failed", "FAILED"
    else:
        label, status = "running", "RUNNING"
    # `start` is that of the last attempt; the points go back to the first.
    began = [point.time for point in points[:1]] + [end or _milliseconds(path)]
    start = min(_time(provenance.get("start"), began[0]), began[0])
    points += _final_points(summary, end or 0)
    unique = {(point.key, point.step): point for point in points}
    tags = _run_tags(folder.name, label, config, summary, provenance, failure)
    return Record(
        name=folder.name,
        key=f"{folder.name}@{digest}",
        status=status,  # type: ignore[arg-type]
        complete=done,
        start=start,
        end=end,
        tags=tags | {"config_hash": str(digest), "current": _text(digest == folder.plan.get("hash", digest))},
        params=dict(_flatten({key: value for key, value in config.items() if key != "hash"})),
        points=list(unique.values()),
        artifacts={name: path / name for name in ARTIFACTS[folder.state] if (path / name).exists()},
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {type(content).__name__}, must be a JSON object")
    return content


def _points(path: Path) -> list[Point]:
    points: list[Point] = []
    try:
        for line in read_jsonl(path):
            point = Point(line["key"], int(line["step"]), float(line["value"]), int(line["time"]))
            if not METRIC.fullmatch(point.key) or max(abs(point.step), abs(point.time)) >= 2**63:
                raise ValueError("key, step or time that MLflow cannot hold")
            points.append(point)
    except (KeyError, TypeError, ValueError) as error:  # JSONDecodeError is a ValueError
        raise DataError(f"{path}: line {len(points) + 1} is not a point ({type(error).__name__}: {error})") from None
    return points


def _final_points(summary: dict[str, Any], end: int) -> list[Point]:
    """The summary's numbers. They have keys of their own: a curve's last point need not be the selected one.

    MLflow draws a metric that has only a step 0 as bars over the runs, any other as a curve.
    """
    numbers = {f"final/{key}": value for key, value in summary.get("metrics", {}).items()}
    for group in ("parameters", "seconds"):
        numbers |= {f"{group}/{key}": value for key, value in summary.get(group, {}).items()}
    for key in ("steps", "selected_step", "samples_per_second"):
        numbers[key] = summary.get(key)
    return [Point(key, 0, float(value), end) for key, value in numbers.items() if value is not None]


def _run_tags(
    name: str,
    label: str,
    config: dict[str, Any],
    summary: dict[str, Any],
    provenance: dict[str, Any],
    failure: dict[str, Any],
) -> dict[str, str]:
    task, setting, variant, seed = name.split("/")
    git = provenance.get("git") or {}
    data = summary.get("data") or provenance.get("data") or []
    tags: dict[str, Any] = {
        "kind": "run",
        "task": task,
        "setting": setting,
        "variant": variant,
        "seed": seed.removeprefix("seed"),
        "status": label,
        "protocol": summary.get("protocol") or config.get("protocol"),
        "family": summary.get("family"),
        "primary_metric": (summary.get("primary") or {}).get("metric"),
        "git_commit": git.get("commit"),
        "git_dirty": git.get("dirty"),
        "git_diff_sha256": git.get("diff_sha256"),
        "mlflow.source.name": "kvformer",
        "mlflow.source.git.commit": git.get("commit"),
        "device": provenance.get("device"),
        "attempts": provenance.get("attempts"),
        "failure": f"{failure.get('type')}: {failure.get('error')}" if label == "failed" else None,
    }
    for key in ("label", "source", "sha256"):
        tags[f"data_{key}"] = "; ".join(str(entry[key]) for entry in data if key in entry) or None
    return {key: _text(value) for key, value in tags.items() if value is not None}


def _flatten(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else canonical_json(value))[:LONGEST]


def _milliseconds(path: Path) -> int:
    return path.stat().st_mtime_ns // 1_000_000


def _time(value: Any, otherwise: int) -> int:
    """A recorded time (ISO 8601, or Unix time in milliseconds) as Unix time in milliseconds."""
    if isinstance(value, int | float):
        return int(value)
    try:
        return round(datetime.fromisoformat(value).timestamp() * 1000)
    except (TypeError, ValueError):
        return otherwise


def study_record(study: Path, runs: list[RunFolder]) -> tuple[Record, str]:
    """The study as one record that carries its tables, figures and report, and the signature of these files."""
    files = [study / name for name in STUDY_ARTIFACTS]
    files += sorted(path for folder in STUDY_FOLDERS for path in study.glob(f"{folder}/**/*") if path.is_file())
    seen = {path.relative_to(study).as_posix(): path.stat() for path in files if path.exists()}
    newest = max(stat.st_mtime_ns for stat in seen.values() or [study.stat()]) // 1_000_000
    states = [run.state for run in runs]
    counts = {f"runs_{state}": str(states.count(state)) for state in ("done", "failed", "running", "missing")}
    record = Record(
        name="study",
        key=f"study@{study.absolute().name}",
        status="FINISHED",
        complete=True,
        start=newest,
        end=newest,
        tags={"kind": "study", "current": "true", "mlflow.source.name": "kvformer", **counts},
        artifacts={name: study / name for name in seen},
    )
    return record, _signature(seen, canonical_json(counts))


def study_note(study: Path) -> str:
    """The experiment's description in Markdown: the study's sentence and its variants with their formulas."""
    content = _json(study / "study.json")
    lines = [content.get("description") or f"kvformer study {study.name}", ""]
    for variant in content.get("variants", []):
        lines.append(f"- **{variant['name']}**: {variant.get('label', '')} `{variant.get('formula', '')}`")
    return "\n".join(lines).strip()
