"""One thread, so that numbers do not depend on the machine; and the helpers of this folder importable by its tests."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def single_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small random data sets of all tasks."""
    from runs import write_data

    return write_data(tmp_path_factory.mktemp("data"))
