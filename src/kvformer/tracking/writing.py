"""The runs of MLflow: what they show, and how one is made to show an entry, whatever it showed before."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from kvformer.files import canonical_json
from kvformer.records.metrics import MetricPoint
from kvformer.records.run import RunFolder
from kvformer.tracking.entries import STUDY_ARTIFACTS, Entry, Source, run_artifacts
from kvformer.tracking.ownership import WRITTEN, changed_tags, first_tags, foreign_tags, own_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Stored = dict[tuple[str, int], tuple[float, int]]
"""Value and time of the points in the store, by key and step."""

PARENT = "mlflow.parentRunId"
KINDS = ("final", "validation", "test", "train", "parameters", "seconds", "diagnostics")
"""First parts of the names of kvformer's metrics, results first; a task may have others."""
PUBLISHED = {name.split("/")[0] for name in STUDY_ARTIFACTS} | {file.name for file in run_artifacts(RunFolder(Path()))}
"""Artifacts that are ours, and may be removed when they are outdated: files, and folders with all that is in them."""


class Shown(NamedTuple):
    """A run in the store. key: its tag `run_key`. state: what it shows (`state_of`), empty where it was cut off.
    current: whether the study lists it, by its tag."""

    run_id: str
    key: str
    state: str
    current: bool


def state_of(signature: str, parent: str) -> str:
    """The state of a run that shows files with this signature, listed under the run `parent` (an id, or empty)."""
    return f"{signature} {parent}"


def shown_runs(client: "MlflowClient", experiment_id: str) -> dict[str, list[Shown]]:
    """What an experiment holds by name: one run per configuration that a run has had. MLflow lists 200 per second."""
    runs: dict[str, list[Shown]] = {}
    token: str | None = None
    while token != "":
        page = client.search_runs([experiment_id], "tags.run_key != ''", max_results=1000, page_token=token)
        for run in page:
            tags = run.data.tags
            # A run is RUNNING until the last call, so that one whose ingestion was cut off can be seen.
            cut_off = run.info.status == "RUNNING"
            state = "" if cut_off else state_of(tags.get("records", ""), tags.get(PARENT, ""))
            found = Shown(run.info.run_id, tags["run_key"], state, tags.get("current") == "true")
            runs.setdefault(found.key.split("@")[0], []).append(found)
        token = page.token or ""
    return runs


def write(
    client: "MlflowClient", experiment_id: str, source: Source, known: list[Shown], parent: str
) -> tuple[Shown, int]:
    """Make the store show an entry; returns MLflow's run and the number of new points.

    known: the runs of its name in the store. parent: the id of the run that it is listed under, empty where there is
    none. Raises DataError or FileNotFoundError where its files cannot be understood.
    """
    entry = source.read()
    tags = {**entry.tags, "run_key": entry.key, "records": source.signature, **({PARENT: parent} if parent else {})}
    versions = [client.get_run(run.run_id) for run in known if run.key == entry.key]
    # Another process, or a person, may have deleted one.
    versions = [run for run in versions if run.info.lifecycle_stage == "active"]
    run, stored = _open(client, experiment_id, entry, tags, versions)
    _publish(client, run, entry)
    _log_data(client, run, entry)
    new = [point for place, point in entry.points.items() if place not in stored]
    _log(client, run, entry, new, tags)
    if entry.status != "RUNNING":
        client.set_terminated(run.info.run_id, entry.status, end_time=entry.end)
    current = entry.tags["current"] == "true"
    return Shown(run.info.run_id, entry.key, state_of(source.signature, parent), current), len(new)


def mark_outdated(client: "MlflowClient", run_id: str) -> None:
    """Say of a run or cell that the study no longer lists it, and that it does not show the state of any files."""
    from mlflow.entities import RunTag

    tags = client.get_run(run_id).data.tags
    changes = changed_tags(tags, {"current": "false", "records": ""})
    if WRITTEN not in tags:  # of an older version; its other tags must not look like a person's
        changes.pop(WRITTEN)
    client.log_batch(run_id, tags=[RunTag(key, value or "") for key, value in changes.items()])


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
        outdated, stored = versions, {}
        run = client.create_run(experiment_id, start_time=entry.start, tags=first_tags(tags, kept), run_name=name)
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

    inputs = [
        DatasetInput(
            Dataset(data.label or data.dataset, data.sha256[:12], "kvformer", canonical_json(data.model_dump()))
        )
        for data in entry.data
        if data.sha256
    ]
    if inputs:
        client.log_inputs(run.info.run_id, datasets=inputs)  # MLflow passes over those that it has


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
