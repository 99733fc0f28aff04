"""One run of MLflow: make it show one entry, whatever it showed before."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from kvformer.files import canonical_json
from kvformer.records.metrics import MetricPoint
from kvformer.records.run import RunFolder
from kvformer.tracking.entries import STUDY_ARTIFACTS, Entry, Source, run_artifacts
from kvformer.tracking.ownership import changed_tags, first_tags, foreign_tags, own_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Outcome = Literal["added", "updated", "unchanged"]
Stored = dict[tuple[str, int], tuple[float, int]]
"""Value and time of the points in the store, by key and step."""

KINDS = ("final", "validation", "test", "train", "parameters", "seconds", "diagnostics")
"""First parts of the names of kvformer's metrics, results first; a task may have others."""
PUBLISHED = {name.split("/")[0] for name in STUDY_ARTIFACTS} | {file.name for file in run_artifacts(RunFolder(Path()))}
"""Artifacts that are ours, and may be removed when they are outdated: files, and folders with all that is in them."""


def write(
    client: "MlflowClient", experiment_id: str, source: Source, known: list["Run"], parent: str | None
) -> tuple[Outcome, int, str]:
    """Make the store show an entry; returns what was done, the number of new points and the id of MLflow's run.

    known: the runs of its name in the store, one per configuration that the run has had. parent: the id of the run that
    it is listed under. Raises DataError or FileNotFoundError where its files cannot be understood.
    """
    nested = {"mlflow.parentRunId": parent} if parent else {}
    complete = {"records": source.signature, **nested}
    for run in known:
        if run.info.status != "RUNNING" and complete.items() <= run.data.tags.items():
            return "unchanged", 0, run.info.run_id
    entry = source.read()
    tags = {**entry.tags, "run_key": entry.key, **complete}
    versions = [run for run in known if run.data.tags["run_key"] == entry.key]
    # The run is RUNNING until the last call, so an ingestion that is cut off can be seen and is completed by the next.
    run, stored = _open(client, experiment_id, entry, tags, versions)
    _publish(client, run, entry)
    _log_data(client, run, entry)
    new = [point for place, point in entry.points.items() if place not in stored]
    _log(client, run, entry, new, tags)
    if entry.status != "RUNNING":
        client.set_terminated(run.info.run_id, entry.status, end_time=entry.end)
    return "updated" if versions else "added", len(new), run.info.run_id


def _open(
    client: "MlflowClient", experiment_id: str, entry: Entry, tags: dict[str, str], versions: list["Run"]
) -> tuple["Run", Stored]:
    """A run to which the entry can be written, marked as RUNNING, and the points that it has.

    versions: the stored runs of this entry. There are two where an ingestion that replaced the run was cut off.
    """
    versions = sorted(versions, key=lambda run: run.info.status != "RUNNING")
    run = versions[0] if versions else None
    stored = _stored_points(client, run, entry) if run else {}
    outdated = versions[1:]
    if run is None or _contradicts(run, stored, entry):
        # MLflow cannot take back a point or a parameter; its trash keeps the run. What people wrote moves on.
        kept = foreign_tags(run.data.tags, tags) if run else {}
        name = (run and run.info.run_name) or entry.name
        outdated = versions
        run = client.create_run(experiment_id, start_time=entry.start, tags=first_tags(tags, kept), run_name=name)
        stored = {}
    elif run.info.status != "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")
    for other in outdated:
        client.delete_run(other.info.run_id)
    return run, stored


def _log(client: "MlflowClient", run: "Run", entry: Entry, new: list[MetricPoint], tags: dict[str, str]) -> None:
    """Write new points, and the parameters and tags that differ, in one request."""
    from mlflow.entities import Metric, Param, RunTag

    old = run.data
    now = time.time_ns() // 1_000_000  # MLflow shows the latest of several values of one step
    metrics = [Metric(key, value, now, 0) for key, value in entry.numbers.items() if old.metrics.get(key) != value]
    # The page of a run lists metrics in the order in which they were first written: results first.
    new = sorted(new, key=lambda point: [not point.key.startswith(kind) for kind in KINDS])
    metrics += [Metric(point.key, point.value, point.time or entry.start, point.step) for point in new]
    changes = changed_tags(old.tags, {**own_tags(old.tags), **tags})
    client.log_batch(
        run.info.run_id,
        metrics=metrics,
        params=[Param(key, value) for key, value in entry.params.items() if key not in old.params],
        tags=[RunTag(key, value) for key, value in changes.items() if value is not None],
    )
    for key in [key for key, value in changes.items() if value is None]:
        client.delete_tag(run.info.run_id, key)


def _log_data(client: "MlflowClient", run: "Run", entry: Entry) -> None:
    """Make the data sets of the entry the inputs of the run."""
    from mlflow.entities import Dataset, DatasetInput

    stored = {known.dataset.digest for known in run.inputs.dataset_inputs} if run.inputs else set()
    new = [
        DatasetInput(
            Dataset(data.label or data.dataset, data.sha256[:12], "kvformer", canonical_json(data.model_dump()))
        )
        for data in entry.data
        if data.sha256 and data.sha256[:12] not in stored
    ]
    if new:
        client.log_inputs(run.info.run_id, datasets=new)


def _stored_points(client: "MlflowClient", run: "Run", entry: Entry) -> Stored:
    """The points of kvformer's metrics, told by the first part of their names; people may have logged others."""
    kinds = {*KINDS, *(key.split("/")[0] for key, _ in entry.points)}
    return {
        (key, metric.step): (metric.value, metric.timestamp)
        for key in run.data.metrics
        if key.split("/")[0] in kinds
        for metric in client.get_metric_history(run.info.run_id, key)
    }


def _contradicts(run: "Run", stored: Stored, entry: Entry) -> bool:
    """Whether the store shows another execution than the files do.

    A resumed run repeats the steps since its checkpoint, with the same values at other times; what was ingested before
    it was killed stays. A run that shares no time with what is stored was trained again from the start.
    """
    if any(run.data.params.get(key, value) != value for key, value in entry.params.items()):
        return True
    common = [(point, *stored[place]) for place, point in entry.points.items() if place in stored]
    if any(_storable(point.value) != _storable(value) for point, value, _ in common):
        return True
    if common and all(point.time != time for point, _, time in common):
        return True
    return entry.complete and len(common) < len(stored)


def _storable(value: float) -> str:
    """A value as databases hold it: they have no infinity. As text, because not-a-number does not equal itself."""
    return repr(min(max(value, -sys.float_info.max), sys.float_info.max))


def _publish(client: "MlflowClient", run: "Run", entry: Entry) -> None:
    """Make the entry's files the artifacts of the run: hard links on this machine, uploads to a server."""
    address = urlsplit(run.info.artifact_uri)
    if address.scheme != "file":
        for name, path in entry.artifacts.items():
            client.log_artifact(run.info.run_id, str(path), str(Path(name).parent) if "/" in name else None)
        return
    folder = Path(url2pathname(address.path))
    for stale in [path for path in folder.rglob("*") if path.is_file()]:
        name = stale.relative_to(folder).as_posix()
        if name not in entry.artifacts and name.split("/")[0] in PUBLISHED:
            stale.unlink()
    for name, path in entry.artifacts.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            # Run files are only ever replaced as a whole, so a link stays what it was.
            os.link(path.resolve(), target)
        except OSError:
            shutil.copy2(path, target)
