"""Fixtures of all folders whose tests train runs."""

from pathlib import Path

import pytest
import torch
from runs import write_data


@pytest.fixture(autouse=True)
def single_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small random data sets for all tasks."""
    return write_data(tmp_path_factory.mktemp("data"))
