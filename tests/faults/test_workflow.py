"""Snakemake, its trainer, or both are killed at any moment: the same command ends with the same bytes when repeated."""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from checkout import Project
from runs import results

from kvformer.config.loading import load_study
from kvformer.training.run import train_run

RUN = "results/killed/runs/reverse/default/kv/seed0"
STEPS = 6000
STUDY = {
    "name": "killed",
    "seeds": 1,
    "variants": ["kv"],
    "baseline": "kv",
    "tasks": {
        "reverse": {
            "data": {"length": 8, "train_examples": 1000, "validation_examples": 100, "test_examples": 100},
            "model": {"dim": 16, "layers": 1, "heads": 2},
            "training": {"steps": STEPS, "batch_size": 16, "evaluations": 60},
        }
    },
    "execution": {"device": "cpu", "checkpoint_seconds": 0.1},
}
COMMAND = (f"{RUN}/summary.json", "--cores", "1")


def last_step(metrics: Path) -> int:
    """The last step recorded, without the line that is being written."""
    whole = metrics.read_text(encoding="utf-8").rpartition("\n")[0] if metrics.exists() else ""
    return int(json.loads(whole.splitlines()[-1])["step"]) if whole else 0


def trainer(snakemake: "subprocess.Popen[bytes]", step: int) -> psutil.Process:
    """Wait until a run that Snakemake started has recorded this step, and return its process."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert snakemake.poll() is None
        for process in psutil.Process(snakemake.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                for file in process.open_files():
                    if file.path.endswith("metrics.jsonl") and last_step(Path(file.path)) >= step:
                        return process
        time.sleep(0.01)
    raise AssertionError(f"no run reached step {step}")


def test_snakemake_trainer_and_both_are_killed(project: Project, tmp_path: Path) -> None:
    """Killed at steps, not times, all of them in the first half, so that training has not ended on any machine."""
    (run,) = load_study(STUDY).runs()
    train_run(run, tmp_path / "whole", tmp_path, device="cpu")
    config = project.study(STUDY)
    first, later, *others = np.sort(np.random.default_rng(1).integers(0, STEPS // 2, 5)).tolist()

    alive = project.start(*COMMAND, *config)
    orphan = trainer(alive, first)
    orphan.suspend()  # it must not end while a second Snakemake looks at the lock
    second = project.snakemake(*COMMAND, *config, output="second.txt")
    assert second.returncode != 0 and "Traceback" not in second.stdout
    assert f"Another study is running here (pid {alive.pid})" in second.stdout and "unlock" not in second.stdout
    alive.kill()
    alive.wait()
    orphan.resume()  # it goes on without Snakemake
    while last_step(project.folder / RUN / "progress" / "metrics.jsonl") < later:
        assert orphan.is_running()
        time.sleep(0.01)
    orphan.kill()
    unlocked = project.snakemake("--unlock", *config)
    assert unlocked.returncode == 0, unlocked.stdout

    *pairs, alone = others
    for step in pairs:
        alive = project.start("--nolock", *COMMAND, *config)
        for process in (trainer(alive, step), alive):
            process.kill()
        alive.wait()

    alive = project.start("--nolock", *COMMAND, *config)
    trainer(alive, alone).kill()  # Snakemake tries again
    assert alive.wait(300) == 0, project.output()
    assert "Trying to restart" in project.output()
    assert not orphan.is_running()
    assert results(project.folder / RUN) == results(tmp_path / "whole")


@pytest.mark.ci
def test_killed_at_twenty_random_moments(project: Project, tmp_path: Path) -> None:
    """While Snakemake plans, or the trainer starts, trains or writes. A finished run is removed, also from the
    archive, and started again."""
    (run,) = load_study(STUDY).runs()
    train_run(run, tmp_path / "whole", tmp_path, device="cpu")
    whole = results(tmp_path / "whole")
    command = ("--nolock", *COMMAND, *project.study(STUDY))
    random = np.random.default_rng(2)

    for number in range(20):
        process = project.start(*command)
        time.sleep(random.uniform(0, 6))
        if number % 3 == 0:
            os.killpg(process.pid, signal.SIGKILL)  # both
        elif number % 3 == 1:
            process.kill()  # the trainer goes on without Snakemake
        else:
            for child in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()  # Snakemake tries again
        if process.wait(300) == 0:
            assert results(project.folder / RUN) == whole
            shutil.rmtree(project.folder / RUN)
            shutil.rmtree(project.folder / "results" / "archive")

    last = project.snakemake(*command)
    assert last.returncode == 0, last.stdout
    assert results(project.folder / RUN) == whole
