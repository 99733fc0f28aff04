"""One run of MLflow: make it show one entry, whatever it showed before."""

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from kvformer.records.run import RunFolder
from kvformer.tracking.entries import STUDY_ARTIFACTS, Entry, Source, run_artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Outcome = Literal["added", "updated", "unchanged"]
Stored = dict[tuple[str, int], tuple[float, int]]
"""Value and time of the points in the store, by key and step."""

PUBLISHED = {name.split("/")[0] for name in STUDY_ARTIFACTS} | {file.name for file in run_artifacts(RunFolder(Path()))}
"""Artifacts that are ours, and may be removed when they are outdated: files, and folders with all that is in them."""


def write(client: "MlflowClient", experiment_id: str, source: Source, known: list["Run"]) -> tuple[Outcome, int]:
    """Make the store show an entry; returns what was done and the number of new points.

    known: the runs of its name in the store, one per configuration that the run has had. Raises DataError or
    FileNotFoundError where its files cannot be understood.
    """
    from mlflow.entities import Metric, Param, RunTag

    entry = source.read()
    tags = entry.tags | {"run_key": entry.key, "records": source.signature}
    run = next((run for run in known if run.data.tags["run_key"] == entry.key), None)
    for other in known:
        if other is not run and other.data.tags.get("current") != "false":
            client.set_tag(other.info.run_id, "current", "false")
    if run and entry.status == run.info.status != "RUNNING" and tags.items() <= run.data.tags.items():
        return "unchanged", 0

    outcome: Outcome = "updated" if run else "added"
    stored = _stored_points(client, run) if run else {}
    if run and _contradicts(run, stored, entry):
        # MLflow cannot take back a point or a parameter; its trash keeps the run.
        client.delete_run(run.info.run_id)
        run, stored = None, {}
    # The run is RUNNING until the last call, so an ingestion that is cut off can be seen and is completed by the next.
    if run is None:
        run = client.create_run(experiment_id, start_time=entry.start, tags=tags, run_name=entry.name)
    elif run.info.status != "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")
    run_id, old = run.info.run_id, run.data
    _publish(client, run, entry)
    new = [point for place, point in entry.points.items() if place not in stored]
    client.log_batch(
        run_id,
        metrics=[Metric(point.key, point.value, point.time or entry.start, point.step) for point in new],
        params=[Param(key, value) for key, value in entry.params.items() if key not in old.params],
        tags=[RunTag(key, value) for key, value in tags.items() if old.tags.get(key) != value],
    )
    if "failure" in old.tags and "failure" not in tags:
        client.delete_tag(run_id, "failure")
    if entry.status != "RUNNING":
        client.set_terminated(run_id, entry.status, end_time=entry.end)
    return outcome, len(new)


def _stored_points(client: "MlflowClient", run: "Run") -> Stored:
    return {
        (key, metric.step): (metric.value, metric.timestamp)
        for key in run.data.metrics
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
