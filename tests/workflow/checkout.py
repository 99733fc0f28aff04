"""A copy of the project that a test may change, and Snakemake in it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "workflow", "profiles", "config", "src", "pyproject.toml")


@dataclass(frozen=True)
class Project:
    """A copy of the project that a test may change and run. prefix: what runs Snakemake, as another user say."""

    folder: Path
    prefix: tuple[str, ...] = ()

    def start(self, *arguments: str, output: str = "output.txt") -> "subprocess.Popen[bytes]":
        """Start Snakemake in the folder, in its own process group; its output goes to the file `output`."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        with (self.folder / output).open("wb") as stream:
            return subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "snakemake", *arguments],
                cwd=self.folder,
                env={**environment, "MLFLOW_DISABLE_TELEMETRY": "true"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self, name: str = "output.txt") -> str:
        """What Snakemake has printed so far."""
        return (self.folder / name).read_text(encoding="utf-8")

    def snakemake(
        self, *arguments: str, output: str = "output.txt", timeout: float = 400
    ) -> "subprocess.CompletedProcess[str]":
        """Run Snakemake in the folder to its end."""
        process = self.start(*arguments, output=output)
        try:
            process.wait(timeout)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(process.args, process.returncode, self.output(output))

    def plan(self, *arguments: str) -> dict[str, int]:
        """The number of jobs per rule that a dry run plans."""
        result = self.snakemake("--dry-run", *arguments)
        assert result.returncode == 0, result.stdout
        if "Nothing to be done" in result.stdout:
            return {}
        table = result.stdout.rpartition("Job stats:")[2].partition("total")[0]
        return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}

    def study(self, content: dict[str, Any]) -> tuple[str, str]:
        """Write a study file into the folder; returns the arguments that choose it."""
        (self.folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return "--configfile", "study.yaml"

    def break_training(self, condition: str) -> None:
        """Let a run fail at its first step where `condition` is true, an expression in `self.run` and the environment's
        variable BROKEN."""
        loop = self.folder / "src" / "kvformer" / "training" / "loop.py"
        start, text = "        if self.stepper is None:\n", loop.read_text(encoding="utf-8")
        assert text.count(start) == 1
        condition = condition.replace("BROKEN", '__import__("os").environ.get("BROKEN")')
        broken = f'        if {condition}:\n            raise ValueError("broken")\n'
        loop.write_text(text.replace(start, broken + start), encoding="utf-8")


def other_workflow(renamed: str = " as kv_*", prefix: str = "") -> str:
    """The head of another workflow's Snakefile, which uses the project as a module. theirs.yaml holds the path of its
    Snakefile and the study."""
    return f"""
configfile: "theirs.yaml"


module kv:
    snakefile:
        config["snakefile"]
    config:
        config["kvformer"]
{prefix}

use rule * from kv{renamed}


"""


def copy_project(folder: Path) -> Project:
    """Copy the parts of the project that the workflow needs."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / part)
    return Project(folder)
