"""A study of a few short runs, and what happens to their jobs."""

import copy
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from checkout import Project
from runs import results

from kvformer.config.loading import load_study
from kvformer.training.run import train_run

PROFILE = ("--profile", "profiles/slurm")
SECTION: dict[str, Any] = {
    "data": {"length": 16, "train_examples": 5000, "validation_examples": 200, "test_examples": 200},
    "model": {"dim": 32, "layers": 1, "heads": 2},
    "training": {"batch_size": 32, "evaluations": 20},
    "resources": {"mem_mb": 1500, "runtime": 10},
}


def small_study(variants: list[str], steps: int = 4000, **keys: Any) -> dict[str, Any]:
    """One task, one seed, these variants."""
    section = copy.deepcopy(SECTION)
    section["training"]["steps"] = steps
    return {
        "name": "cluster",
        "seeds": 1,
        "variants": variants,
        "baseline": variants[0],
        "tasks": {"reverse": section},
        "execution": {"device": "cpu", "checkpoint_seconds": 3600.0},
        **keys,
    }


def undisturbed(study: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """The results of a study's runs when they are trained here, one after the other, by run path."""
    torch.set_num_threads(1)
    whole = {}
    for run in load_study(study).runs():
        train_run(run, folder / run.path, folder, device="cpu")
        whole[run.path] = results(folder / run.path)
    return whole


class Jobs:
    """The training jobs of a study that is being run on SLURM."""

    def __init__(self, project: Project, process: "subprocess.Popen[bytes]") -> None:
        self.project, self.process = project, process
        self.folder = project.folder / "results" / "cluster"

    def wait(self, ready: Callable[[], Any], what: str, seconds: float = 300) -> Any:
        """Wait until `ready` returns something true, and return that."""
        deadline = time.monotonic() + seconds
        while not (found := ready()):
            assert self.process.poll() is None, f"Snakemake ended before {what}:\n{self.project.output()}"
            assert time.monotonic() < deadline, f"waited {seconds} s, but not: {what}"
            time.sleep(0.1)
        return found

    def training(self, variant: str, other_than: str = "") -> str:
        """The number of the job that trains a variant, once it has recorded something."""
        log = self.folder / "logs" / "runs" / "reverse" / "default" / variant / "seed0.log"
        old = log.read_text(encoding="utf-8") if log.exists() and other_than else None

        def trains() -> str | None:
            if not log.exists() or (text := log.read_text(encoding="utf-8")) == old or "step " not in text:
                return None
            jobs = slurm("squeue", "--noheader", "--states=running", "--format=%A %k").splitlines()
            found = [line.split()[0] for line in jobs if f"_{variant}_0" in line and line.split()[0] != other_than]
            return found[0] if found else None

        return str(self.wait(trains, f"{variant} is trained"))

    def state(self, job: str) -> str:
        """The state of a job, empty once it is gone."""
        return slurm("squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%T").strip()


def slurm(*command: str) -> str:
    """Run one of SLURM's commands and return what it prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
