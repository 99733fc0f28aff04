"""The image of the jobs: what the Dockerfile copies exists, and --sdm apptainer runs jobs in it."""

import re
import sys
from pathlib import Path

import pytest
from checkout import ROOT, copy_project

TASK = {"data": {"train_examples": 100, "test_examples": 100}, "training": {"steps": 1}}
STUDY = {"name": "boxed", "seeds": 1, "variants": ["kv"], "baseline": "kv", "tasks": {"reverse": TASK}}
APPTAINER = """#!/bin/sh
# Runs a command without a container and notes how it was called.
test "$1" = --version && { echo "apptainer version 1.4.0"; exit; }
echo "$@" >> calls.txt
while test "$1" != -c; do shift; done
exec bash -c "$2"
"""


def test_the_image_is_built_from_the_lock_only() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (\S+) (\S+)$", text, re.MULTILINE)
    assert [source for source, _ in copied] == ["requirements.lock"]
    assert f"--requirement {copied[0][1]}" in text
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored == ["*", "!requirements.lock"], "nothing else is sent to the builder"
    version = re.search(r"^FROM python:(\d+\.\d+)-", text, re.MULTILINE)
    assert version and f'requires-python = ">={version[1]}.' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_jobs_run_in_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Apptainer: the image, the mounted folder and the command that it gets."""
    project = copy_project(tmp_path / "boxed")
    (project.folder / "kvformer.sif").touch()
    stand_in = tmp_path / "bin" / "apptainer"
    stand_in.parent.mkdir()
    stand_in.write_text(APPTAINER)
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{Path(sys.executable).parent}:/usr/bin:/bin")
    target = "results/boxed/runs/reverse/default/kv/seed0/summary.json"
    result = project.snakemake(target, "--cores", "1", "--sdm", "apptainer", *project.study(STUDY))
    assert result.returncode == 0, result.stdout
    assert (project.folder / target).stat().st_size > 0
    (call,) = (project.folder / "calls.txt").read_text().splitlines()
    assert call.startswith(f"exec --home {project.folder} ") and " kvformer.sif bash -c " in call
