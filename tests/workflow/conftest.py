"""Copies of the project in a folder with a space in its name."""

import shutil
import sys
from pathlib import Path

import pytest

# Makes `checkout` and `runs` importable.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "core")]

from checkout import ROOT, Project, copy_project  # noqa: E402


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
    (project.folder / "first.txt").write_text(result.stdout, encoding="utf-8")
    return project
