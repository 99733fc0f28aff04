"""Finished runs are kept whatever happens around them, and the first seed of a cell goes ahead of the others."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkout import Project, copy_project

STUDY: dict[str, Any] = {
    "name": "first",
    "seeds": 2,
    "variants": ["qkv", "kv"],
    "tasks": {
        "numbers": {
            "data": {"context": 4},
            "model": {"dim": 16, "layers": 1, "heads": 2},
            "training": {"steps": 5, "batch_size": 16, "evaluations": 1},
        }
    },
    "execution": {"device": "cpu"},
}
RUNS = "runs/numbers/default"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the study has been trained. Tests work with copies."""
    project = copy_project(tmp_path_factory.mktemp("done") / "a folder")
    result = project.snakemake("--cores", "2", "--until", "train", *project.study(STUDY))
    assert result.returncode == 0, result.stdout
    return project


@pytest.fixture
def copy(done: Project, tmp_path: Path) -> Project:
    """A fresh clone into which the results were copied: without .snakemake, and all files have new times."""
    clone = copy_project(tmp_path / "a clone")
    shutil.copytree(done.folder / "results", clone.folder / "results", copy_function=shutil.copy)
    return clone


def logs(project: Project, study: str) -> dict[str, str]:
    """The log of each training job, by variant and seed."""
    folder = project.folder / "results" / study / "logs" / RUNS
    return {path.relative_to(folder).with_suffix("").as_posix(): path.read_text() for path in folder.rglob("*.log")}


def trained(project: Project, study: str) -> list[str]:
    """The runs of which the logs say that they were trained, since the logs were deleted."""
    return sorted(name for name, text in logs(project, study).items() if "step 5/5" in text)


def test_results_in_a_fresh_clone_are_not_trained_again(copy: Project) -> None:
    """Whether the runs' folders are there or not, and even if the prepared data look newer than all of them."""
    results = copy.folder / "results"
    shutil.rmtree(results / "first" / RUNS / "qkv")
    shutil.rmtree(results / "first" / "logs")
    next((results / "data").glob("*/manifest.json")).touch()
    option, study = copy.study(STUDY)
    plan = copy.snakemake("-n", option, study)
    assert "2 of 4 runs are taken over from results/archive" in plan.stdout
    result = copy.snakemake("--cores", "2", "--until", "train", option, study)
    assert result.returncode == 0, result.stdout
    assert trained(copy, "first") == []
    assert all(f"taken over from first/{RUNS}/{name}" in text for name, text in logs(copy, "first").items())
    assert set(logs(copy, "first")) >= {"qkv/seed0", "qkv/seed1"}
    assert "train" not in copy.plan("--until", "train", option, study)


def test_a_second_study_trains_only_what_the_first_has_not(done: Project, tmp_path: Path) -> None:
    copy = Project(shutil.copytree(done.folder, tmp_path / "a copy"))  # with .snakemake and all times
    second = {**STUDY, "name": "second", "seeds": 3, "variants": ["kv", "k"], "baseline": "kv"}
    where = copy.study(second)
    assert "2 of 6 runs are taken over from results/archive" in copy.snakemake("-n", *where).stdout
    result = copy.snakemake("--cores", "2", "--until", "train", *where)
    assert result.returncode == 0, result.stdout
    assert trained(copy, "second") == ["k/seed0", "k/seed1", "k/seed2", "kv/seed2"]
    assert "taken over from first" in logs(copy, "second")["kv/seed0"]

    plan = copy.plan("--until", "train", *copy.study(STUDY))
    assert "train" not in plan, "taking runs over changes nothing in the study that they come from"


def test_without_reuse_everything_is_trained_again(copy: Project) -> None:
    shutil.rmtree(copy.folder / "results" / "first")
    study = {**STUDY, "execution": {"device": "cpu", "reuse": False}}
    where = copy.study(study)
    assert "taken over" not in copy.snakemake("-n", *where).stdout
    assert copy.snakemake("--cores", "2", "--until", "train", *where).returncode == 0
    assert trained(copy, "first") == ["kv/seed0", "kv/seed1", "qkv/seed0", "qkv/seed1"]


def test_other_seeds_wait_until_the_first_one_is_trained(copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One variant fails while a variable of the environment says so. The rest goes on, retries included."""
    copy.break_training("BROKEN == self.run.variant")
    shutil.rmtree(copy.folder / "results" / "first")
    study = {**STUDY, "seeds": 3}
    command = ("--cores", "1", "--retries", "1", *copy.study(study))

    monkeypatch.setenv("BROKEN", "kv")
    result = copy.snakemake(*command)
    assert result.returncode != 0
    assert trained(copy, "first") == ["qkv/seed0", "qkv/seed1", "qkv/seed2"]
    assert "ValueError: broken" in logs(copy, "first")["kv/seed0"]
    for seed in (1, 2):
        expected = "kvformer: error: not started: seed 0 failed (ValueError: broken)"
        assert logs(copy, "first")[f"kv/seed{seed}"].splitlines()[-1] == expected
    with (copy.folder / "results/first/runs.csv").open(newline="") as stream:
        found = {(row["variant"], row["seed"]): row["status"] for row in csv.DictReader(stream)}
    assert found == {
        **{("qkv", str(seed)): "finished" for seed in range(3)},
        **{("kv", str(seed)): "not started" for seed in (1, 2)},
        ("kv", "0"): "failed",
    }
    page = (copy.folder / "results/first/report.html").read_text(encoding="utf-8")
    assert page.count("not started: seed 0 failed") == 2

    monkeypatch.delenv("BROKEN")
    result = copy.snakemake(*command[:-2], "--until", "train", *command[-2:])
    assert result.returncode == 0, result.stdout
    assert len(trained(copy, "first")) == 6
