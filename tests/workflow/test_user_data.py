"""The user's own data in the workflow: what has changed is named, prepared and trained again."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from checkout import Project

from kvformer.config.availability import leave_out_missing
from kvformer.records.study import study_file

STUDY = {
    "name": "mine",
    "seeds": 1,
    "variants": ["qkv"],
    "tasks": {
        "mnist": {
            "data": {"dataset": "arrays:mine", "patch": 4, "validation_examples": 8},
            "model": {"dim": 16, "layers": 1, "heads": 2},
            "training": {"steps": 2, "batch_size": 8, "evaluations": 1},
        }
    },
}


def write_arrays(folder: Path, value: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 24), ("test", 8)):
        np.save(folder / f"{split}_images.npy", np.full((count, 8, 8), 200 + value, dtype=np.uint8))
        np.save(folder / f"{split}_labels.npy", np.arange(count) % 2)


@pytest.fixture
def prepared(project: Project) -> Project:
    write_arrays(project.folder / "data" / "mine")
    target = "results/mine/runs/mnist/default/qkv/seed0/summary.json"
    result = project.snakemake("--cores", "2", *project.study(STUDY), "--", target)
    assert result.returncode == 0, result.stdout
    return project


def test_a_job_elsewhere_knows_a_task_whose_data_were_missing_at_the_last_start(project: Project) -> None:
    """With tuning, study.json is that of the last start until the values are chosen."""
    tuning = {"grid": {"training.learning_rate": [1e-3]}, "seeds": 1}
    study = {**STUDY, "protocol": "corrected", "on_missing": "skip", "tuning": tuning}
    study["tasks"] = {**STUDY["tasks"], "reverse": {}}
    without, skipped = leave_out_missing({**study, "execution": {"data_folder": str(project.folder / "data")}})
    assert [entry.task for entry in skipped] == ["mnist"]
    without.manifest(skipped).write(study_file(project.folder / "results" / "mine"))

    write_arrays(project.folder / "data" / "mine")
    chosen = project.study(study)
    started = project.snakemake("--cores", "1", *chosen, "--", "results/data/arrays:mine/manifest.json")
    assert started.returncode == 0, started.stdout
    trial = "tune:task=mnist,setting=learning_rate0.001,variant=qkv,seed=9000"
    job = ("--target-jobs", trial, "--allowed-rules", "tune", "--mode", "remote", "--nolock", "--no-hooks")
    assert project.plan(*chosen, *job) == {"tune": 1}


def test_changed_user_files_are_told_prepared_and_trained_again(prepared: Project) -> None:
    option = ("--configfile", "study.yaml", "--", "results/mine/runs/mnist/default/qkv/seed0/summary.json")
    mine = prepared.folder / "data" / "mine"
    assert prepared.plan(*option) == {}
    os.utime(mine / "train_images.npy")
    shutil.copytree(mine, mine.with_name("copy"))
    shutil.rmtree(mine)
    mine.with_name("copy").rename(mine)
    assert prepared.plan(*option) == {}, "other times, the same content"
    write_arrays(mine, value=1)
    shutil.rmtree(prepared.folder / ".snakemake")
    for _ in range(2):
        assert prepared.plan(*option) == {"prepare": 1, "train": 1}
        assert "arrays:mine: data/mine has changed since it was prepared (test_images.npy, " in prepared.output()
    result = prepared.snakemake("--cores", "2", *option)
    assert result.returncode == 0, result.stdout
    assert prepared.plan(*option) == {}
    (mine / "test_labels.npy").unlink()
    result = prepared.snakemake("--cores", "2", *option)
    assert result.returncode != 0
    assert "data/mine/test_labels.npy: missing" in result.stdout
    assert "Traceback" not in result.stdout
