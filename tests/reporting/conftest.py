"""The fake study on disk, once a session and read-only, and `fake_study` importable by the tests of this folder."""

import sys
from pathlib import Path

import pytest

from kvformer.analysis.collect import collect

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a collected fake study; tests must not write below its `runs/`."""
    from fake_study import write_fake_study

    results = write_fake_study(tmp_path_factory.mktemp("results"))
    collect(results)
    return results


@pytest.fixture(autouse=True)
def _no_forced_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels' multipletests collects garbage on every call: a fifth of a second each under pytest."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)
