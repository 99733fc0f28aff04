"""The fake study on disk, once a session and read-only, or a fresh one for tests that write."""

from pathlib import Path

import pytest
from fake_study import write_fake_study

from kvformer.reporting.collect import collect


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a collected fake study; tests must not write below its `runs/`."""
    results = write_fake_study(tmp_path_factory.mktemp("results"))
    collect(results)
    return results
