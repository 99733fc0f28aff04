"""The benchmark of scale works, on a study of 500 runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_plan_and_reporting_are_measured() -> None:
    parts = ("plan", "collect", "analyse", "tables", "figures")
    chosen = [word for part in parts for word in ("--only", part)]
    command = [sys.executable, "-m", "benchmarks.scale", "--runs", "500", *chosen]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("500 runs")
    assert re.findall(r"^(\w+) +[\d.]+ s on the clock", result.stdout, re.M) == list(parts)
