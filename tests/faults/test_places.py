"""On file systems that keep removed files visible until they are closed, and for a user who may write little, a study
ends as on a plain disk."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from checkout import Project, copy_project
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


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The study, done on a plain disk."""
    project = copy_project(tmp_path_factory.mktemp("plain") / "a folder")
    project.study(STUDY)
    run(project)
    return project


def run(project: Project) -> None:
    """Run the study to its end, and once more."""
    done = project.snakemake("--cores", "2", "--retries", "0", "--configfile", "study.yaml")
    assert done.returncode == 0, done.stdout
    again = project.snakemake("--cores", "2", "--configfile", "study.yaml")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout, again.stdout


def same(one: Project, other: Project) -> None:
    """Both have the same files, and runs with the same bytes."""
    folders = [project.folder / "results" / "tiny" for project in (one, other)]
    files = [sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) for folder in folders]
    assert files[0] == files[1]
    runs = [path.parent.relative_to(folders[0]) for path in folders[0].glob("runs/**/summary.json")]
    assert len(runs) == 4
    for path in runs:
        assert results(folders[0] / path) == results(folders[1] / path)


def test_a_study_ends_as_on_a_plain_disk(mirror: Path, plain: Project) -> None:
    project = copy_project(mirror / "a folder")
    project.study(STUDY)
    run(project)
    same(project, plain)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter; those of pytest are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_study_of_a_restricted_user_ends_as_on_a_plain_disk(plain: Project, open_folder: Path) -> None:
    """The user owns nothing but the folder of the project; the prepared data are another user's."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can start processes of another user")
    # It may read everything, because these tests may be installed where others cannot read, but writes only its own.
    read = "-all,+dac_read_search"
    user = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    rights = (f"--inh-caps={read}", f"--ambient-caps={read}", f"--bounding-set={read}")
    folder = open_folder / "a folder"
    project = Project(folder, (*user, *rights, "env", f"HOME={folder}"))
    copy_project(project.folder)
    project.study(STUDY)
    shutil.copytree(plain.folder / "results" / "data", project.folder / "results" / "data")
    (project.folder / "output.txt").touch()
    subprocess.run(["chown", "-R", "65534:65534", project.folder], check=True)
    subprocess.run(["chown", "-R", "0:0", project.folder / "results" / "data"], check=True)
    run(project)
    same(project, plain)
