"""File systems on which a removed file stays visible until it is closed: a study ends there as on a plain disk."""

from pathlib import Path
from typing import TextIO

import pytest
from checkout import copy_project
from runs import results, tiny_run

from kvformer.cli import main
from kvformer.records.run import RunFolder
from kvformer.training.run import train_run

TASK = {
    "data": {"context": 4},
    "model": {"dim": 16, "layers": 1, "heads": 2},
    "training": {"steps": 10, "batch_size": 16, "evaluations": 2},
}
STUDY = {
    "name": "tiny",
    "seeds": 2,
    "variants": ["qkv", "kv"],
    "tasks": {"numbers": TASK},
    "execution": {"device": "cpu"},
}


def test_a_run_ends_as_on_a_plain_disk(
    mirror: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("copy")
    train_run(run, tmp_path / "plain", prepared, "cpu")
    capsys.readouterr()
    train_run(run, mirror / "run", prepared, "cpu")
    assert not (mirror / "run" / "progress").exists()
    assert results(mirror / "run") == results(tmp_path / "plain")
    assert capsys.readouterr().out == ""


def test_a_finished_run_stays_finished_if_its_progress_cannot_be_removed(
    mirror: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tiny_run("copy"), mirror / "run"
    opened: list[TextIO] = []

    def keep_open(step: int, steps: int, values: dict[str, float]) -> None:
        opened.append(RunFolder(out).progress_metrics_file.open())

    assert train_run(run, out, prepared, "cpu", report=keep_open).status == "finished"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{out}/progress: cannot be removed (Directory not empty); the run is finished")
    assert RunFolder(out).outcome(run.hash)[0] == "finished"
    for stream in opened:
        stream.close()
    assert main(["train", "--run", run.to_json(), "--out", str(out), "--data", str(prepared), "--device", "cpu"]) == 0
    assert not (out / "progress").exists()


def test_a_study_ends_as_on_a_plain_disk(mirror: Path, tmp_path: Path) -> None:
    projects = [copy_project(folder / "a folder") for folder in (tmp_path, mirror)]
    for project in projects:
        done = project.snakemake("--cores", "2", "--retries", "0", *project.study(STUDY))
        assert done.returncode == 0, done.stdout
        again = project.snakemake("--cores", "2", *project.study(STUDY))
        assert again.returncode == 0 and "Nothing to be done" in again.stdout
    plain, there = (project.folder / "results" / "tiny" for project in projects)
    runs = sorted(path.parent.relative_to(plain) for path in plain.glob("runs/**/summary.json"))
    assert len(runs) == 4
    for run in runs:
        assert results(there / run) == results(plain / run)

    def files(study: Path) -> list[str]:
        return sorted(path.relative_to(study).as_posix() for path in study.rglob("*"))

    assert files(there) == files(plain)
