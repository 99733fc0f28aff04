"""What can be known before the first job is reported then, in one line, and nothing is written."""

import os
import subprocess
import time
from typing import Any

import psutil
import pytest
from checkout import Project

REVERSE = {
    "data": {"length": 8, "train_examples": 500, "validation_examples": 100, "test_examples": 100},
    "model": {"dim": 16, "layers": 1, "heads": 2},
    "training": {"steps": 5, "batch_size": 50, "evaluations": 1},
}
STUDY: dict[str, Any] = {"name": "small", "seeds": 1, "variants": ["qkv", "kv"], "tasks": {"reverse": REVERSE}}
TARGET = "results/small/runs/reverse/default/kv/seed0/summary.json"


def refused(project: Project, *words: str, study: dict[str, Any] | None = None, folder: str = "results") -> None:
    """Assert that the study stops with one line that has these words, before anything is written into its results."""
    before = sorted((project.folder / folder).rglob("*"))
    result = project.snakemake("--cores", "1", *project.study(study or STUDY))
    assert result.returncode != 0 and "Traceback" not in result.stdout
    assert any(all(word in line for word in words) for line in result.stdout.splitlines()), result.stdout[-2000:]
    assert sorted((project.folder / folder).rglob("*")) == before


def test_an_address_that_mlflow_does_not_support_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    refused(project, "MLflow tracking URI 'databricks'", "MLFLOW_TRACKING_URI", "execution.tracking_uri")


def test_a_server_that_gives_no_answer_is_a_warning(project: Project) -> None:
    study = {**STUDY, "execution": {"device": "cpu", "tracking_uri": "http://user:sesame@127.0.0.1:1/?token=sesame"}}
    result = project.snakemake(TARGET, "--cores", "1", *project.study(study))
    assert result.returncode == 0, result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("warning: MLflow at http://127.0.0.1:1")]
    assert "refused" in line and "kvformer track" in line and "sesame" not in result.stdout
    assert "warning" not in project.snakemake("--dry-run", *project.study(study)).stdout, "a dry run asks no server"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder read-only for itself, by mounting it")
@pytest.mark.parametrize("name", ["", "small/logs", "archive", "data"])
def test_a_folder_of_the_results_that_cannot_be_written_is_refused(name: str, project: Project) -> None:
    mnist = {"data": {"dataset": "arrays:mine"}}
    (project.folder / "data" / "mine").mkdir(parents=True)
    for file in ("train_images", "train_labels", "test_images", "test_labels"):
        (project.folder / "data" / "mine" / f"{file}.npy").touch()
    study = {**STUDY, "tasks": {"mnist": mnist}, "execution": {"runs_per_job": 8}}
    results = project.folder / "results" / name
    results.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(results)], check=True)
    try:
        refused(project, "execution.results_folder", str(results), "cannot be written", study=study)
    finally:
        subprocess.run(["umount", str(results)], check=True)


def test_a_results_folder_that_is_a_file_is_refused(project: Project) -> None:
    (project.folder / "taken").touch()
    refused(project, str(project.folder / "taken"), "is not a folder",
            study={**STUDY, "execution": {"results_folder": "taken"}}, folder="taken")  # fmt: skip


def test_another_study_that_differs_in_case_only_is_refused(project: Project) -> None:
    (project.folder / "results" / "Small").mkdir(parents=True)
    refused(project, "name: 'small'", "results/Small", "differ only in case")


def test_published_numbers_and_a_lock_with_mistakes_are_refused(project: Project) -> None:
    (project.folder / "requirements.lock").write_text("torch = 2\n")
    refused(project, "requirements.lock", "line 1", "torch = 2")
    (project.folder / "requirements.lock").unlink()
    (project.folder / "config" / "published.csv").write_text("study,task\nours,reverse\n")
    refused(project, "published.csv", "has no column")


def test_a_results_folder_that_would_lead_elsewhere_is_refused(project: Project) -> None:
    before = sorted(project.folder.iterdir())
    refused(project, "execution.results_folder", study={**STUDY, "execution": {"results_folder": "a{b}"}})
    assert sorted({*project.folder.iterdir()} - {*before} - {project.folder / ".snakemake"}) == [
        project.folder / "output.txt", project.folder / "study.yaml"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a{b}", "a:b"])
def test_a_project_folder_that_would_lead_elsewhere_is_refused(name: str, project: Project) -> None:
    moved = Project(project.folder.rename(project.folder.with_name(name)))
    result = moved.snakemake("--cores", "1", *moved.study(STUDY))
    assert result.returncode != 0 and "Traceback" not in result.stdout
    assert "the folder of the project" in result.stdout and "choose a folder without it" in result.stdout
    assert not (moved.folder / "results").exists()


def test_a_project_and_results_with_other_special_characters_work(project: Project) -> None:
    """Those that mean something to a shell, a regular expression, a pattern of file names, or an address."""
    name = "a #%$HOME'\\;*[x]&~=,|ü b"
    moved = Project(project.folder.rename(project.folder.with_name(name)))
    study = {**STUDY, "execution": {"device": "cpu", "results_folder": "re #%'\\;*[x]&~=,|ü:s"}}
    result = moved.snakemake("--cores", "2", *moved.study(study))
    assert result.returncode == 0, result.stdout[-3000:]
    results = moved.folder / "re #%'\\;*[x]&~=,|ü:s"
    assert sorted(path.name for path in results.iterdir()) == ["archive", "data", "mlflow", "small"]
    assert (results / "small" / "report.html").is_file() and (results / "mlflow" / "mlflow.db").stat().st_size > 0
    assert not (moved.folder / "results").exists()
    assert [path.name for path in moved.folder.parent.iterdir()] == [name], "nothing is written elsewhere"


def test_a_second_study_in_the_same_folder_is_told_to_wait(project: Project) -> None:
    """Snakemake would advise to unlock; the pid that is named is that of the study that runs."""
    slow = {**REVERSE, "training": {"steps": 100_000, "batch_size": 50, "evaluations": 1}}
    config = project.study({**STUDY, "tasks": {"reverse": slow}})
    first = project.start(TARGET, "--cores", "1", *config)
    try:
        deadline = time.monotonic() + 120
        while not any((project.folder / ".snakemake" / "locks").glob("*.lock")):
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        second = project.snakemake(TARGET, "--cores", "1", *config, output="second.txt")
        assert second.returncode != 0 and "Traceback" not in second.stdout and "unlock" not in second.stdout
        assert second.stdout.splitlines()[-1].startswith(f"Another study is running here (pid {first.pid}) and needs")
    finally:
        for process in (*psutil.Process(first.pid).children(recursive=True), first):
            process.kill()
        first.wait()
    left = project.snakemake(TARGET, "--cores", "1", *config, output="third.txt")
    assert left.returncode != 0
    assert "or one was killed" in left.stdout.splitlines()[-1] and "make unlock" in left.stdout.splitlines()[-1]
