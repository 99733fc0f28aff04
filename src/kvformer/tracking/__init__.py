"""Run folders → MLflow. MLflow is imported only when something is ingested, PyTorch never."""

from pathlib import Path

from kvformer.errors import ConfigError
from kvformer.tracking.ingest import Ingestion, TrackReport
from kvformer.tracking.server import serve, ui_command

__all__ = ["TrackReport", "serve", "track", "ui_command"]


def track(results: list[Path], uri: str | None = None, live: bool = False) -> TrackReport:
    """Ingest study folders `results/<name>` into MLflow, one experiment per study; what is there already stays.

    `uri` is the store, by default MLFLOW_TRACKING_URI and failing that `results/mlflow/mlflow.db`; `live` also shows
    runs in progress. Raises KvformerError, in one line, where the store cannot be reached or a path is not the folder
    of a study: the run folders are untouched and a later call completes it.
    """
    folders = {study.absolute().parent for study in results}
    if len(folders) != 1:
        found = ", ".join(str(folder) for folder in sorted(folders)) or "none"
        raise ConfigError(f"track: studies must lie in one results folder, they lie in: {found}")
    return Ingestion(folders.pop(), uri).track(results, live)
