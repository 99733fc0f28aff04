"""The workflow on a real SLURM of one node (tools/start_slurm.sh): same results as here, nothing lost by a signal."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "workflow", "profiles", "config", "src", "pyproject.toml")
RUN = "runs/reverse/default/kv/seed0"
STUDY = {
    "name": "cluster",
    "seeds": 1,
    "variants": ["kv"],
    "baseline": "kv",
    "tasks": {
        "reverse": {
            "data": {"length": 16, "train_examples": 5000, "validation_examples": 200, "test_examples": 200},
            "model": {"dim": 32, "layers": 1, "heads": 2},
            "training": {"steps": 600, "batch_size": 32, "evaluations": 6},
            "resources": {"mem_mb": 1500, "runtime": 10},
        }
    },
    "execution": {"device": "cpu", "checkpoint_seconds": 3600.0},
}


def _slurm_runs() -> bool:
    try:
        return subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=10).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not _slurm_runs(), reason="no SLURM is running here; as root: tools/start_slurm.sh"),
    pytest.mark.skipif(
        " " in sys.executable, reason="the SLURM plugin cannot use an interpreter in a path with a space"
    ),
]


def _copy(folder: Path) -> Path:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, folder / part)
    profile = yaml.safe_load((folder / "profiles" / "slurm" / "profile.yaml").read_text())
    # One node and no network: ask often and wait for no file system.
    profile |= {"slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 2, "latency-wait": 5}
    profile["set-resources"] |= {"collect": {"mem_mb": 1000}}
    (folder / "profiles" / "slurm" / "profile.yaml").write_text(yaml.safe_dump(profile))
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return folder


def _start(folder: Path, *options: str) -> subprocess.Popen[str]:
    # The target is the last training and what is collected from it; reporting has nothing to do with the cluster.
    command = [sys.executable, "-m", "snakemake", "results/cluster/runs.csv", *options, "--configfile", "study.yaml"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _finish(process: subprocess.Popen[str]) -> str:
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        process.terminate()
    assert process.returncode == 0, output[-4000:]
    return output


def _metrics(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "results" / "cluster" / RUN / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in ("elapsed", "time")} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run by the local executor."""
    folder = _copy(tmp_path_factory.mktemp("local"))
    _finish(_start(folder, "--cores", "2"))
    return folder


def test_a_warned_job_saves_is_tried_again_and_ends_as_if_undisturbed(tmp_path, undisturbed):
    folder = _copy(tmp_path)
    process = _start(folder, "--profile", "profiles/slurm")
    log = folder / "results" / "cluster" / "logs" / f"{RUN}.log"
    deadline = time.monotonic() + 200
    while not (log.is_file() and "step " in log.read_text()):
        assert process.poll() is None and time.monotonic() < deadline, "the training did not start"
        time.sleep(0.2)
    jobs = subprocess.run(["squeue", "--noheader", "--format=%A %k"], capture_output=True, text=True, check=True).stdout
    (job,) = [line.split()[0] for line in jobs.splitlines() if "rule_train" in line]
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    output = _finish(process)

    assert "Trying to restart job" in output
    provenance = json.loads((folder / "results" / "cluster" / RUN / "provenance.json").read_text())
    assert provenance["attempts"] == 2
    assert _metrics(folder) == _metrics(undisturbed)
