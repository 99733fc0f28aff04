"""The benchmarks are a package at the root of the repository; they train, as the core does."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "core")]

from fixtures import single_thread  # noqa: E402, F401
