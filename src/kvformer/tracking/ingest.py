"""Run folders into MLflow. The files are the truth: afterwards MLflow shows what they hold, whatever was there."""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from kvformer.errors import ConfigError, DataError
from kvformer.tracking.run_records import (
    RUN_ARTIFACTS,
    STUDY_ARTIFACTS,
    STUDY_FOLDERS,
    Record,
    RunFolder,
    read_run,
    study_note,
    study_record,
    study_runs,
)
from kvformer.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

PAGE = 1000
FEW = 10  # so many runs are looked up one by one, more by listing the task: MLflow lists some 200 runs a second
PUBLISHED = {*RUN_ARTIFACTS, *STUDY_ARTIFACTS, *STUDY_FOLDERS}

Outcome = Literal["added", "updated", "unchanged"]


@dataclass
class TrackReport:
    """What an ingestion did. `problems` has a line for every run folder that could not be understood."""

    store: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    points: int = 0
    unfinished: int = 0
    missing: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = [
            f"{self.added} runs added",
            f"{self.updated} updated",
            f"{self.unchanged} unchanged",
            f"{self.points:,} new points",
        ]
        counts += [f"{self.unfinished} in progress"] if self.unfinished else []
        counts += [f"{self.missing} not started"] if self.missing else []
        return "\n".join([f"{self.store}: {', '.join(counts)}", *self.problems])


class Ingestion:
    """Keeps one store in step with study folders; a later pass of the same object looks at changed runs only."""

    def __init__(self, results: Path, uri: str | None) -> None:
        self.store = Store(results, uri)
        self._seen: dict[tuple[str, int | None, str], str] = {}

    def track(self, studies: Iterable[Path], live: bool) -> TrackReport:
        """Bring the store up to date, with runs in progress if `live`. Raises KvformerError as `tracking.track`."""
        report = TrackReport(self.store.shown)
        with self.store.writer() as client:
            for study in studies:
                self._track_study(client, study, live, report)
        return report

    def _track_study(self, client: "MlflowClient", study: Path, live: bool, report: TrackReport) -> None:
        if not (study / "study.json").exists() and not (study / "runs").is_dir():
            raise ConfigError(f"{study}: holds neither study.json nor runs/, must be a study's folder, results/<name>")
        runs = study_runs(study)
        report.missing += sum(run.state == "missing" for run in runs)
        report.unfinished += sum(run.state == "running" for run in runs)
        experiment = self.store.experiment(client, study.absolute().name, study_note(study))
        followed = ("done", "failed", "running") if live else ("done", "failed")
        # Without a study.json nothing tells which configuration a run in progress has.
        shown = [run for run in runs if run.state in followed and (run.plan or run.state != "running")]
        # The store itself remembers, by task, the state that it is complete for: nothing can get out of step with it.
        before = dict(_pairs(experiment.tags.get("records", "")))
        now = {}
        for task, group in groupby(sorted(shown, key=lambda run: run.name), key=lambda run: run.name.split("/")[0]):
            members = list(group)
            state = hashlib.sha256("\n".join(f"{run.name} {run.signature}" for run in members).encode()).hexdigest()[
                :16
            ]
            if before.get(task) == state:
                report.unchanged += len(members)
            elif not self._track_task(client, experiment, task, members, report):
                continue
            now[task] = state
        record, signature = study_record(study, runs)
        if before.get("@study") != signature:
            _write(client, experiment, record, signature, _known(client, experiment, "study@%").get(record.name, []))
        now["@study"] = signature
        if now != before:
            text = " ".join(f"{task}:{state}" for task, state in now.items())
            client.set_experiment_tag(experiment.experiment_id, "records", text)

    def _track_task(
        self, client: "MlflowClient", experiment: "Experiment", task: str, runs: list[RunFolder], report: TrackReport
    ) -> bool:
        """Bring the runs of a task up to date; returns whether all of them could be understood."""
        marks = {run.name: (experiment.experiment_id, experiment.creation_time, run.name) for run in runs}
        fresh = [run for run in runs if self._seen.get(marks[run.name]) != run.signature]
        report.unchanged += len(runs) - len(fresh)
        patterns = [f"{run.name}@%" for run in fresh] if len(fresh) <= FEW else [f"{task}/%"]
        known = _known(client, experiment, *patterns)
        problems = len(report.problems)
        for run in fresh:
            try:
                outcome, points = _write(client, experiment, read_run(run), run.signature, known.get(run.name, []))
            except DataError as error:
                report.problems.append(str(error))
                continue
            setattr(report, outcome, getattr(report, outcome) + 1)
            report.points += points
            self._seen[marks[run.name]] = run.signature
        return len(report.problems) == problems


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split():
        task, _, state = pair.partition(":")
        yield task, state


def _known(client: "MlflowClient", experiment: "Experiment", *patterns: str) -> dict[str, list["Run"]]:
    """Runs of ours in the store by name; one name has several where its configuration was changed meanwhile."""
    known: dict[str, list[Run]] = {}
    for pattern in patterns:
        token: str | None = ""
        while token is not None:
            page = client.search_runs(
                [experiment.experiment_id], f"tags.run_key LIKE '{pattern}'", max_results=PAGE, page_token=token or None
            )
            for run in page:
                known.setdefault(run.data.tags["run_key"].split("@")[0], []).append(run)
            token = page.token or None
    return known


def _write(
    client: "MlflowClient", experiment: "Experiment", record: Record, signature: str, known: list["Run"]
) -> tuple[Outcome, int]:
    """Make the store show `record`; returns what was done and the number of new points."""
    from mlflow.entities import Metric, Param, RunTag

    run = next((run for run in known if run.data.tags["run_key"] == record.key), None)
    for other in known:
        if other is not run and other.data.tags.get("current") != "false":
            client.set_tag(other.info.run_id, "current", "false")
    if run is not None and record.status != "RUNNING" and _is_complete(run, record, signature):
        return "unchanged", 0

    outcome: Outcome = "added" if run is None else "updated"
    points = record.points
    if run is not None:
        stored = _stored_points(client, run)
        if _contradicts(run, stored, record):
            # MLflow cannot take back a point or a parameter; its trash keeps the run.
            client.delete_run(run.info.run_id)
            run = None
        else:
            points = [point for point in points if (point.key, point.step) not in stored]
    tags: dict[str, str] = {}
    if run is None:
        # Marked RUNNING by MLflow until the last call below, so an ingestion that is cut off is seen to be incomplete.
        tags = record.tags | {"run_key": record.key, "records": signature}
        run = client.create_run(experiment.experiment_id, start_time=record.start, tags=tags, run_name=record.name)
    run_id, old = run.info.run_id, run.data
    _publish(client, run, record)
    client.log_batch(
        run_id,
        metrics=[Metric(point.key, point.value, point.time, point.step) for point in points],
        params=[Param(key, value) for key, value in record.params.items() if key not in old.params],
        tags=[RunTag(key, value) for key, value in record.tags.items() if tags.get(key, old.tags.get(key)) != value],
    )
    if "failure" in old.tags and "failure" not in record.tags:
        client.delete_tag(run_id, "failure")
    if record.status != "RUNNING":
        client.set_terminated(run_id, record.status, end_time=record.end)
    elif run.info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")
    if not tags:
        client.set_tag(run_id, "records", signature)
    return outcome, len(points)


def _is_complete(run: "Run", record: Record, signature: str) -> bool:
    tags = run.data.tags
    same = tags.get("records") == signature and tags.get("current") == record.tags["current"]
    return same and run.info.status == record.status


def _stored_points(client: "MlflowClient", run: "Run") -> dict[tuple[str, int], tuple[float, int]]:
    """Value and time of the points in the store, by key and step."""
    return {
        (key, metric.step): (metric.value, metric.timestamp)
        for key in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, key)
    }


def _contradicts(run: "Run", stored: dict[tuple[str, int], tuple[float, int]], record: Record) -> bool:
    """Whether the store shows another execution than the files do.

    A resumed run repeats the steps since its checkpoint, with the same values at other times; what was ingested before
    it was killed stays. A run that shares no time with what is stored was started anew.
    """
    if any(run.data.params.get(key, value) != value for key, value in record.params.items()):
        return True
    common = [(point, *stored[point.key, point.step]) for point in record.points if (point.key, point.step) in stored]
    if any(_storable(point.value) != _storable(value) for point, value, _ in common):
        return True
    if common and all(point.time != time for point, _, time in common):
        return True
    return record.complete and len(common) < len(stored)


def _storable(value: float) -> float | str:
    """A value as MLflow's databases hold it: they know no infinity, and not-a-number does not equal itself."""
    return "nan" if value != value else min(max(value, -sys.float_info.max), sys.float_info.max)


def _publish(client: "MlflowClient", run: "Run", record: Record) -> None:
    """Make the record's files the artifacts of the run: hard links on this machine, uploads to a server."""
    address = urlsplit(run.info.artifact_uri)
    if address.scheme != "file":
        for name, path in record.artifacts.items():
            client.log_artifact(run.info.run_id, str(path), str(Path(name).parent) if "/" in name else None)
        return
    folder = Path(url2pathname(address.path))
    for stale in [path for path in folder.rglob("*") if path.is_file()]:
        name = stale.relative_to(folder).as_posix()
        if name not in record.artifacts and name.split("/")[0] in PUBLISHED:
            stale.unlink()
    for name, path in record.artifacts.items():
        target = folder / name
        if target.exists():
            if target.samefile(path):
                continue
            target.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Run files are only ever replaced as a whole, so a link stays what it was.
            os.link(path.resolve(), target)
        except OSError:
            shutil.copy2(path, target)
