"""Tests that take minutes on a real SLURM, run by .ci/run separately: a time limit, arrays, groups, the smoke study."""

import shutil
from pathlib import Path

import pytest
from checkout import ROOT, Project, copy_project
from runs import results
from studies import PROFILE, Jobs, slurm, small_study, undisturbed

from kvformer.files import read_json

pytestmark = [pytest.mark.cluster, pytest.mark.ci]
TARGET = "results/cluster/runs.csv"


def test_a_run_continues_after_a_time_limit(project: Project, tmp_path: Path) -> None:
    """SLURM itself sends the signal. It checks time limits every 30 seconds, which is why the run is long."""
    study = small_study(["kv"], steps=50_000)
    process = project.start(TARGET, *PROFILE, *project.study(study))
    try:
        slurm("scontrol", "update", f"jobid={Jobs(project, process).training('kv')}", "TimeLimit=1")
        whole = undisturbed(study, tmp_path / "here")
        assert process.wait(600) == 0, project.output()
    finally:
        process.kill()
    assert {path: results(project.folder / "results" / "cluster" / path) for path in whole} == whole
    assert "Trying to restart" in project.output()
    (path,) = whole
    assert read_json(project.folder / "results" / "cluster" / path / "provenance.json")["attempts"] == 2


@pytest.mark.parametrize(
    "options", [("--slurm-array-jobs=train",), ("--groups", "train=runs", "--group-components", "runs=2")]
)
def test_arrays_and_groups_give_the_same_results(options: tuple[str, ...], project: Project, tmp_path: Path) -> None:
    study = small_study(["qkv", "kv"], steps=50)
    result = project.snakemake(TARGET, *options, *PROFILE, *project.study(study))
    assert result.returncode == 0, result.stdout
    assert ("Submitted array job" in result.stdout) != ("Group job runs" in result.stdout)
    whole = undisturbed(study, tmp_path / "here")
    assert {path: results(project.folder / "results" / "cluster" / path) for path in whole} == whole


def test_one_job_trains_several_runs(project: Project, tmp_path: Path) -> None:
    """Two runs, one submission."""
    study = small_study(["qkv", "kv"], steps=50)
    study["execution"]["runs_per_job"] = 8
    result = project.snakemake(TARGET, *PROFILE, *project.study(study))
    assert result.returncode == 0, result.stdout
    submitted = [line for line in result.stdout.splitlines() if "SLURM jobid" in line and "train_many_1" in line]
    assert len(submitted) == 1, result.stdout
    whole = undisturbed(study, tmp_path / "here")
    assert {path: results(project.folder / "results" / "cluster" / path) for path in whole} == whole


def test_the_smoke_study_is_the_same_on_slurm_and_here(project: Project, tmp_path: Path) -> None:
    """The whole workflow, on the same prepared data."""
    smoke = ("--configfile", "config/smoke.yaml")
    here = copy_project(tmp_path / "here")
    prepared = ROOT / "results" / "data"
    if prepared.is_dir():
        shutil.copytree(prepared, here.folder / "results" / "data")
    result = here.snakemake("results/smoke/runs.csv", "--cores", "all", *smoke, timeout=900)
    assert result.returncode == 0, result.stdout
    shutil.copytree(here.folder / "results" / "data", project.folder / "results" / "data")
    result = project.snakemake(*PROFILE, *smoke, timeout=1500)
    assert result.returncode == 0, result.stdout

    studies = [folder.folder / "results" / "smoke" for folder in (here, project)]
    plans = [read_json(study / "study.json") for study in studies]
    assert plans[0] == plans[1]
    assert len(plans[0]["runs"]) == 18
    for run in plans[0]["runs"]:
        local, remote = (results(study / run["path"]) for study in studies)
        assert local == remote, run["path"]
    assert (studies[1] / "report.html").is_file()
    assert (studies[1].parent / "mlflow" / "smoke.tracked").is_file()
