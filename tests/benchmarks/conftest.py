"""The benchmarks are a package at the root of the repository."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.fixture(autouse=True)
def single_thread() -> None:
    torch.set_num_threads(1)
