"""tools/gpu.sh, which measures on a GPU, is rehearsed on a CPU with stand-ins, so that typing errors are found here."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from tools.many import chosen, rates

from benchmarks import cases, device

ROOT = Path(__file__).parents[2]


def test_the_whole_script(tmp_path: Path) -> None:
    environment = {**os.environ, "REHEARSE": "1", "PYTHON": sys.executable, "OUT": str(tmp_path / "out")}
    done = subprocess.run(
        ["bash", "tools/gpu.sh"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    log = (tmp_path / "out" / "gpu.log").read_text()
    for part in ("tests", "benchmark", "throughput", "successor", "default"):
        assert f"{part}: exit code 0" in log
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"gpu.log", "gpu.tar.gz", "provenance.json", "throughput.csv", "device.csv"}
    assert len(files) <= 8, "no more files come back from the device"
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["rehearsal"] is True
    with (tmp_path / "out" / "throughput.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["label"], row["processes"]) for row in rows[:2]] == [("plain", "1"), ("plain", "2")]
    assert rows[-2]["label"] == "successor" and rows[-2]["runs"] == "3240" and rows[-1]["label"] == "default"
    assert all(int(row["finished"]) >= 3 and row["failed"] == row["failed_processes"] == "0" for row in rows)
    with tarfile.open(tmp_path / "out" / "gpu.tar.gz") as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
    assert {"tests.xml", "benchmarks/device.csv", "benchmarks/provenance.json", "default/report.html"} <= names


def test_runs_per_minute() -> None:
    assert rates([1.0, 6.0, 9.0, 11.0], 10.0) == {
        "seconds": 10.0, "finished": 4, "per_minute": 24.0, "per_minute_later": 24.0,
    }  # fmt: skip


def test_tasks_without_data_are_left_out(tmp_path: Path) -> None:
    study = chosen(ROOT / "config" / "config.yaml", tmp_path, None, tiny=True)
    assert [task.name for task in study.tasks] == ["reverse", "sort", "shift"]
    assert len(study.runs) == 72 and {entry.task for entry in study.settings} == {task.name for task in study.tasks}
    assert all(entry.training["steps"] == 3 for entry in study.settings if entry.training is not None)


@pytest.mark.gpu
@pytest.mark.parametrize("case", cases.CASES)
def test_a_case_on_a_gpu(case: str, tmp_path: Path) -> None:
    cases.write_data(tmp_path)
    rows = device.measure(case, tmp_path, 2, torch.device("cuda"), tiny=True)
    assert [row["recorded"] for row in rows] == [not case.startswith("translation")] * len(device.VARIANTS)
