"""Tests of tracking run without the caller's MLflow settings and read the store back through MLflow's own client."""

import itertools
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # makes `fake_runs` importable

PARENT = "mlflow.parentRunId"
_LOOKS = itertools.count(100)
Export = dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow has just created, which takes it seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def cold_study(tmp_path: Path) -> Path:
    """A study's folder, below one whose name means something in addresses; there is no database yet."""
    return tmp_path / "my #1 résults 100%20" / "demo"


@pytest.fixture
def study(cold_study: Path, empty_database: Path) -> Path:
    """The same with an empty database."""
    (cold_study.parent / "mlflow").mkdir(parents=True)
    shutil.copy(empty_database, cold_study.parent / "mlflow" / "mlflow.db")
    return cold_study


@pytest.fixture
def export() -> Callable[..., Export]:
    """Reads all that a store holds of a study, by run key, ids left out; cells only where `cells` is true."""
    return _export


def _export(study: Path, uri: str | None = None, cells: bool = False) -> Export:
    from mlflow import MlflowClient

    database = study.parent.absolute() / "mlflow" / "mlflow.db"
    # MLflow keeps what it opened by address, so each look at a file that may have been replaced needs one of its own.
    client = MlflowClient(uri or f"sqlite:///{database}?timeout={next(_LOOKS)}")
    experiment = client.get_experiment_by_name(study.name)
    assert experiment is not None
    runs: Export = {}
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    names = {run.info.run_id: run.info.run_name for run in found}
    for run in found:
        key = run.data.tags["run_key"]
        if key.endswith("@cell") and not cells:
            continue
        assert key not in runs, f"{key} is there twice"
        points = [
            (name, point.step, "nan" if math.isnan(point.value) else point.value, point.timestamp)
            for name in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, name)
        ]
        runs[key] = {
            "name": run.info.run_name,
            "status": run.info.status,
            "start": run.info.start_time,
            "end": run.info.end_time,
            "params": run.data.params,
            "tags": {name: value for name, value in run.data.tags.items() if name not in ("written", PARENT)},
            "parent": names.get(run.data.tags.get(PARENT, "")),
            "data": [(known.dataset.name, known.dataset.digest) for known in run.inputs.dataset_inputs],
            "points": sorted(points, key=str),
            "artifacts": sorted(_files(client, run.info.run_id, "")),
        }
    return runs


def _files(client: Any, run_id: str, folder: str) -> list[str]:
    files = []
    for entry in client.list_artifacts(run_id, folder or None):
        files += _files(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return files
