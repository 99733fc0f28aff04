"""What MLflow shows of a study: one entry per run folder and one for the study itself. Never imports MLflow."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from os import stat_result
from pathlib import Path
from typing import Any, Literal

from kvformer.errors import DataError
from kvformer.files import canonical_json
from kvformer.records.metrics import MetricPoint, read_metrics
from kvformer.records.provenance import DataRecord, Provenance
from kvformer.records.run import NOT_STARTED, Failure, RunConfiguration, RunFolder, Summary
from kvformer.records.study import RunEntry, SettingEntry, StudyManifest

State = Literal["done", "failed", "running", "missing", "cell", "study"]
Points = dict[tuple[str, int], MetricPoint]
"""The points of a run by key and step."""
Stats = dict[Path, stat_result]

TABLES = ("runs.csv", "curves.csv.gz", "correct.csv.gz", "tuning.json", "cost.csv", "profile.csv", "tables/**/*")
STUDY_ARTIFACTS = ("study.json", "looks/*.json", "report.html", "ro-crate-metadata.json", "figures/**/*", *TABLES)
METRIC = re.compile(r"[\w.:/ -]{1,250}")
LONGEST = 5000  # characters; MLflow would cut a parameter at 6000, and then it would never equal the file's
STUDY = "study"  # the name of the study's own entry
FORMAT = "2"  # of what is made of the files: another one brings every run up to date


@dataclass(frozen=True)
class Entry:
    """One run of MLflow. Times are Unix times in milliseconds.

    key: the tag `run_key`, by which the run is found again. complete: these are all of its points. numbers: metrics
    that may change as long as the run exists. artifacts: files by their name in MLflow.
    """

    name: str
    key: str
    status: Literal["FINISHED", "FAILED", "RUNNING"]
    complete: bool
    start: int
    end: int | None
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    points: Points = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    data: list[DataRecord] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """The files behind one entry.

    signature: changes whenever one of the files does. read: reads them; raises DataError or FileNotFoundError, which
    name the file. parent: the name of the run's cell.
    """

    name: str
    state: State
    signature: str
    read: Callable[[], Entry]
    parent: str = ""


def digest(text: str) -> str:
    """Equal for equal text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def study_note(manifest: StudyManifest) -> str:
    """The experiment's description in Markdown: the study's sentence and its variants with their formulas."""
    variants = [f"- **{variant.name}**: {variant.label} `{variant.formula}`" for variant in manifest.variants]
    return "\n".join([manifest.description or f"kvformer study {manifest.name}", "", *variants]).strip()


def run_sources(study: Path, manifest: StudyManifest) -> list[Source]:
    """The runs that the study expects."""
    settings = manifest.sections
    sources = []
    for run in manifest.runs:
        folder = RunFolder(study / run.path)
        files = _stats([*run_artifacts(folder), folder.metrics_file, folder.progress_metrics_file])
        state = _state(folder, files)
        read = partial(_read_run, folder, run, settings.get((run.task, run.setting)), state)
        look = _look(folder.path, files, run.hash)
        sources.append(Source(run_name(run), state, look, read, cell_name(run)))
    return sources


def study_source(study: Path, runs: list[Source]) -> Source:
    """The study itself, with its report, tables and figures as artifacts."""
    files = _stats(sorted(path for pattern in STUDY_ARTIFACTS for path in study.glob(pattern) if path.is_file()))
    states = [run.state for run in runs]
    counts = {f"runs_{state}": str(states.count(state)) for state in ("done", "failed", "running", "missing")}
    newest = max(stat.st_mtime_ns for stat in files.values()) // 1_000_000
    entry = Entry(
        name=STUDY,
        key=f"{STUDY}@{study.absolute().name}",
        status="FINISHED",
        complete=True,
        start=newest,
        end=newest,
        tags={"kind": "study", "current": "true", "mlflow.source.name": "kvformer", **counts},
        artifacts={path.relative_to(study).as_posix(): path for path in files},
    )
    return Source(STUDY, "study", _look(study, files, canonical_json(counts)), lambda: entry)


def run_artifacts(folder: RunFolder) -> list[Path]:
    """Files of a run that MLflow shows."""
    ended = [folder.config_file, folder.summary_file, folder.provenance_file, folder.samples_file]
    return [*ended, folder.attention_file, folder.failure_file]


def cell_name(run: RunEntry) -> str:
    """The name of the cell of a run."""
    return f"{run.task}/{run.setting}/{run.variant}"


def run_name(run: RunEntry) -> str:
    """The name of a run."""
    return f"{cell_name(run)}/seed{run.seed}"


def _stats(files: Iterable[Path]) -> Stats:
    """Size and time of those files that exist."""
    found = {}
    for file in files:
        with suppress(OSError):
            found[file] = file.stat()
    return found


def _look(folder: Path, files: Stats, also: str) -> str:
    lines = [f"{file.relative_to(folder)}:{stat.st_size}:{stat.st_mtime_ns}" for file, stat in files.items()]
    return digest("\n".join([FORMAT, *lines, also]))


def _state(folder: RunFolder, files: Stats) -> State:
    failure, progress = files.get(folder.failure_file), files.get(folder.progress_metrics_file)
    summary = files.get(folder.summary_file)
    if summary and summary.st_size:  # the summary of a run that was given up is empty
        return "done"
    # A retry writes new points after the failure of the attempt before it.
    if failure and not (progress and progress.st_mtime_ns > failure.st_mtime_ns):
        return "failed"
    return "running" if progress else "missing"


def _read_run(folder: RunFolder, run: RunEntry, setting: SettingEntry | None, state: State) -> Entry:
    done = state == "done"
    # Next to a run that has not ended there may be files of an earlier execution, which say nothing about it.
    summary = Summary.load(folder.summary_file) if done else None
    provenance = Provenance.load(folder.provenance_file) if done else Provenance()
    failure = Failure.load(folder.failure_file) if state == "failed" else None
    configuration = RunConfiguration.load(folder.config_file).content if done else planned(run, setting)
    identity = summary.config_hash if summary else run.hash
    points = list(read_metrics(folder.metrics_file if done else folder.progress_metrics_file))
    end = None
    if done or failure:
        end = _time(failure.time, folder.failure_file) if failure else _time(provenance.end, folder.summary_file)
    # The recorded start is that of the last attempt; the points go back to the first.
    starts = [_time(provenance.start, folder.path), end, *(point.time for point in points[:1])]
    if summary and end:
        points += _final_points(summary, end)
    label = summary.status if summary else NOT_STARTED if failure and failure.type == NOT_STARTED else state
    tags = {
        "kind": "run",
        **run.model_dump(include={"task", "setting", "variant", "seed"}),
        "status": label,
        "config_hash": identity,
        "current": identity == run.hash,
        "protocol": configuration.get("protocol"),
        "failure": failure and f"{failure.type}: {failure.error}",
        "mlflow.source.name": "kvformer",
        **(_origin(summary, provenance) if summary else {}),
    }
    artifacts = run_artifacts(folder) if done else [folder.failure_file] if failure else []
    return Entry(
        name=run_name(run),
        key=f"{run_name(run)}@{identity}",
        status="FINISHED" if label == "finished" else "RUNNING" if label == "running" else "FAILED",
        complete=done,
        start=min(start for start in starts if start),
        end=end,
        tags=texts(tags),
        params=parameters(configuration),
        points=_by_place(points, folder),
        data=summary.data if summary else [],
        artifacts={file.name: file for file in artifacts if file.exists()},
    )


def planned(run: RunEntry, setting: SettingEntry | None) -> dict[str, Any]:
    """What the run's config.json will hold once the run has ended, by dotted key."""
    trial = {"departures", "tried_for", "tried"}
    resolved = setting.model_dump(exclude=trial, exclude_unset=True) if setting else {}
    labels = run.model_dump(exclude={"path", "hash", "tuned"}, exclude_unset=True)
    return dict(_flatten(resolved | labels, ".")) | run.tuned


def _origin(summary: Summary, provenance: Provenance) -> dict[str, Any]:
    """Tags that say where a run comes from."""
    return {
        "family": summary.family,
        "primary_metric": summary.primary.metric if summary.primary else None,
        "git_commit": provenance.git.commit,
        "git_dirty": provenance.git.dirty,
        "git_diff_sha256": provenance.git.diff_sha256,
        "mlflow.source.git.commit": provenance.git.commit,
        "device": provenance.device,
        "attempts": provenance.attempts,
        **{
            f"data_{key}": "; ".join(getattr(data, key) for data in summary.data)
            for key in ("label", "source", "sha256")
        },
    }


def _final_points(summary: Summary, time: int) -> list[MetricPoint]:
    """The summary's numbers. They have keys of their own: a curve's last point need not be the selected one.

    MLflow draws a metric that has only a step 0 as bars over the runs, any other as a curve.
    """
    numbers = summary.model_dump(include={"parameters", "seconds", "steps", "selected_step", "samples_per_second"})
    named = _flatten({"final": summary.metrics, **numbers}, "/")
    return [MetricPoint(key, 0, float(value), time=time) for key, value in named if value is not None]


def _by_place(points: list[MetricPoint], folder: RunFolder) -> Points:
    for key in {point.key for point in points}:
        if not METRIC.fullmatch(key):
            raise DataError(f"{folder.path}: metric {key!r}, MLflow allows letters, digits, spaces and _ - . : /")
    return {(point.key, point.step): point for point in points}


def parameters(configuration: dict[str, Any]) -> dict[str, str]:
    """The parameters that MLflow shows of a resolved configuration."""
    return {key: _text(value) for key, value in _flatten(configuration, ".")}


def texts(tags: dict[str, Any]) -> dict[str, str]:
    """Tags as MLflow has them, without empty ones."""
    return {key: _text(value) for key, value in tags.items() if value not in (None, "")}


def _flatten(content: dict[str, Any], separator: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from ((f"{key}{separator}{name}", inner) for name, inner in _flatten(value, separator))
        else:
            yield key, value


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else canonical_json(value))[:LONGEST]


def _time(recorded: str | None, file: Path) -> int:
    """A recorded time (ISO 8601) as Unix time in milliseconds; that of the file where it is missing or unreadable."""
    with suppress(ValueError):
        if recorded:
            return round(datetime.fromisoformat(recorded).timestamp() * 1000)
    return file.stat().st_mtime_ns // 1_000_000
