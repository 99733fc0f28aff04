"""A copy of the project in a folder with a space in its name, and Snakemake in it."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "workflow", "profiles", "config", "src", "pyproject.toml")


@dataclass(frozen=True)
class Project:
    """A copy of the project that a test may change and run."""

    folder: Path

    def snakemake(self, *arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in the folder; standard output holds both streams."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env={**environment, "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def plan(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule a dry run plans."""
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


def copy_project(folder: Path) -> Project:
    """Copy what the workflow needs of the project."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / part)
    return Project(folder)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh copy of the project."""
    return copy_project(tmp_path / "a folder")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which the smoke study has run to its end. Tests leave its files as they were."""
    project = copy_project(tmp_path_factory.mktemp("smoke") / "a folder")
    prepared = ROOT / "results" / "data"
    if prepared.is_dir():
        shutil.copytree(prepared, project.folder / "results" / "data")
    result = project.snakemake("--cores", "2", "--configfile", "config/smoke.yaml")
    assert result.returncode == 0, result.stdout[-5000:]
    (project.folder / "output.txt").write_text(result.stdout, encoding="utf-8")
    return project
