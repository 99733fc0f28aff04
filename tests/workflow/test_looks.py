"""Studies with looks: which runs are planned, and that nothing is lost or trained in vain whatever happens to them."""

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from adaptive import CELLS, FOLDER, SECTION, STUDY, TARGETS, Adaptive, adaptive_project, asked_next, kill
from checkout import Project, other_workflow
from runs import results

from kvformer.config.loading import load_study
from kvformer.records.study import looks_taken, read_manifest
from kvformer.training.run import train_run

THEIRS = f"""{other_workflow()}rule whole:
    input:
        rules.kv_all.input,
    output:
        touch("whole.txt"),


rule part:
    input:
        rules.kv_collect.output,
        rules.kv_ended.output,
    output:
        touch("part.txt"),
"""
ADDED = {**STUDY, "seeds": {"looks": [2, 3, 4, 6]}}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Adaptive:
    """A project in which the study has ended. Tests work with copies."""
    project = adaptive_project(tmp_path_factory.mktemp("done") / "a folder")
    study = project.study(STUDY)
    fresh = project.snakemake("--dry-run", *study)
    assert "looks at 2, 3, 4 seeds: at least 12 and at most 24 runs in all" in fresh.stdout
    assert project.planned(*study)["train"] == CELLS * 2
    assert project.plan(*study, "--", "every_seed")["train"] == CELLS * 4
    result = project.run(*study)
    assert result.returncode == 0, result.stdout
    return project


@pytest.fixture
def copy(done: Adaptive, tmp_path: Path) -> Adaptive:
    """A copy of it with all times."""
    return Adaptive(shutil.copytree(done.folder, tmp_path / "a copy"))


def test_only_open_comparisons_and_their_baselines_get_more_seeds(done: Adaptive, tmp_path: Path) -> None:
    rows = done.rows()
    assert rows == done.undisturbed(STUDY, tmp_path / "clean")
    trained = {(row["task"], row["variant"], row["seed"]) for row in rows}
    assert trained == {tuple(path.parts[-4:-3] + path.parts[-2:]) for path in runs_of(done)}
    first, second = (done.open(look) for look in (1, 2))
    assert second < first and done.open(3) <= second, "the test needs a study in which a look decides something"
    assert {(task, variant) for task, variant, seed in trained if seed == "2"} == asked_next(first)
    assert {(task, variant) for task, variant, seed in trained if seed == "3"} == asked_next(second)
    assert {row["status"] for row in rows} == {"finished"}


def wait_for(process: "subprocess.Popen[bytes]", ready: Callable[[], bool]) -> None:
    """Wait until something is true while Snakemake runs."""
    deadline = time.monotonic() + 300
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def runs_of(project: Adaptive) -> list[Path]:
    """Folders of runs that have ended, with the number of the seed as their last part."""
    paths = [path.parent for path in project.results.glob("runs/*/*/*/*/summary.json")]
    return [path.with_name(path.name.removeprefix("seed")) for path in paths]


def test_a_second_run_has_nothing_to_do(copy: Adaptive) -> None:
    study = copy.study(STUDY)
    assert copy.planned(*study) == {}
    shutil.rmtree(copy.folder / ".snakemake")
    assert copy.planned(*study) == {}
    assert copy.planned(*copy.study({**STUDY, "execution": {"tracking_uri": "http://127.0.0.1:1"}})) == {}


def test_results_in_a_fresh_clone_train_nothing(done: Adaptive, tmp_path: Path) -> None:
    """Copied without .snakemake, in a moment in which all files get new times."""
    clone = adaptive_project(tmp_path / "a clone")
    shutil.copytree(done.folder / "results", clone.folder / "results", copy_function=shutil.copy)
    study = clone.study(STUDY)
    assert "train" not in clone.planned(*study)
    assert clone.run(*study).returncode == 0
    assert clone.rows() == done.rows()


def test_one_more_look_plans_the_open_comparisons_and_their_baselines(copy: Adaptive) -> None:
    study = copy.study(ADDED)
    assert copy.planned(*study) == {"study": 1, "look": 1, "collect": 1, "ended": 1}, "no run, as far as it is known"
    assert copy.run(*study).returncode == 0
    assert {row["seed"] for row in copy.rows()} == {str(seed) for seed in range(6)}
    open_after = asked_next(copy.open(3))
    assert {(row["task"], row["variant"]) for row in copy.rows() if row["seed"] in ("4", "5")} == open_after
    assert copy.planned(*study) == {}


def test_statistics_that_change_repeat_the_looks_and_train_nothing(copy: Adaptive) -> None:
    copy.edit("analysis/verdicts.py", "ALPHA = 0.05", "ALPHA = 0.06")
    study = copy.study(STUDY)
    assert copy.planned(*study) == {"look": 1, "collect": 1, "ended": 1}
    result = copy.run(*study)
    assert result.returncode == 0 and result.stdout.count(": Look ") == 3 and ": Train " not in result.stdout


@pytest.mark.ci
def test_a_lost_run_of_the_first_look_is_the_only_one_trained(copy: Adaptive) -> None:
    """And the looks are taken again at once, not when the study is started the next time."""
    rows, study = copy.rows(), copy.study(STUDY)
    (copy.results / "runs/copy/default/kv/seed1/summary.json").unlink()
    plan = copy.plan(*study)
    assert (plan["train"], plan["look"], plan["collect"], plan["ended"]) == (1, 3, 1, 1)
    lost = f"{FOLDER}/runs/copy/default/kv/seed1/summary.json"
    result = copy.snakemake("--cores", "2", *study, "--", lost, *TARGETS)
    assert result.returncode == 0, result.stdout
    assert copy.planned(*study) == {} and copy.rows() == rows


@pytest.mark.ci
def test_killed_in_the_second_look(copy: Adaptive) -> None:
    """With everything that it had started, while runs of the look are being trained."""
    rows, study = copy.rows(), copy.study(STUDY)
    for name in ("results", ".snakemake"):
        shutil.rmtree(copy.folder / name)
    process = copy.start("--cores", "2", *study, "--", f"{FOLDER}/runs.csv")
    wait_for(process, lambda: any(path.name == "2" for path in runs_of(copy)))
    kill(process)
    ended = len(runs_of(copy))
    assert CELLS * 2 < ended < len(rows)
    assert copy.snakemake("--unlock", *study).returncode == 0
    plan = copy.planned(*study)
    assert plan["train"] <= len(asked_next(copy.open(1))), "none of the first look"
    assert copy.run(*study).returncode == 0
    assert copy.rows() == rows
    assert copy.planned(*study) == {}


def in_jobs_of(runs: int) -> dict[str, Any]:
    """The study with several runs per job."""
    return {**STUDY, "execution": {"device": "cpu", "runs_per_job": runs}}


@pytest.mark.ci
def test_a_changed_variant_trains_its_runs_and_takes_the_looks_again(copy: Adaptive, tmp_path: Path) -> None:
    path = copy.folder / "src/kvformer/spec/variants.py"
    change = "from dataclasses import replace\nVARIANTS['kv'] = replace(VARIANTS['kv'], widen_mlp=True)\n"
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{change}", encoding="utf-8")
    assert copy.planned(*copy.study(STUDY)) == {"train": 4, "look": 1, "collect": 1, "ended": 1}
    result = copy.run(*copy.study(in_jobs_of(3)))
    assert result.returncode == 0 and result.stdout.count(": Look ") == 3
    assert copy.rows() == copy.undisturbed(STUDY, tmp_path / "clean")
    assert [copy.planned(*copy.study(in_jobs_of(size))) for size in (3, 1)] == [{}, {}]


@pytest.mark.ci
@pytest.mark.parametrize(("how", "runs"), [("fail", 1), ("kill", 3)])
def test_a_failed_run_blocks_no_look_and_is_tried_again(how: str, runs: int, tmp_path: Path) -> None:
    """Also where it shares a process with others, and takes that with it."""
    project = adaptive_project(tmp_path / "a folder")
    study = project.study(in_jobs_of(runs))
    project.tell(copy_kv_1=how)
    result = project.run("--retries", "1", *study)
    assert result.returncode != 0
    assert "copy/default/kv/seed1: failed" in result.stdout and "The study is incomplete" in result.stdout
    lost = [row for row in project.rows() if row["status"] != "finished"]
    assert [(row["task"], row["variant"], row["seed"], row["status"]) for row in lost] == [
        ("copy", "kv", "1", "failed")
    ]
    assert (project.results / "looks" / "look3.json").exists() or not project.open(2)

    again = project.run("--retries", "0", *study)
    assert again.returncode != 0
    assert again.stdout.count("Train kv on copy (default), seed 1" if runs == 1 else "runs of copy (default)") == 1
    assert again.stdout.count(": Train ") == 1

    project.tell()
    assert project.run(*study).returncode == 0
    assert project.rows() == project.undisturbed(STUDY, tmp_path / "clean")
    assert project.planned(*study) == {}


@pytest.mark.ci
def test_a_module_of_another_workflow(tmp_path: Path) -> None:
    project, outer = adaptive_project(tmp_path / "kvformer"), Adaptive(tmp_path / "theirs")
    outer.folder.mkdir()
    config = {"snakefile": str(project.folder / "Snakefile"), "kvformer": STUDY}
    (outer.folder / "theirs.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (outer.folder / "Snakefile").write_text(THEIRS, encoding="utf-8")
    plan = outer.plan("whole.txt")
    assert plan["kv_train"] == CELLS * 2 and plan["kv_look"] == plan["kv_ended"] == 1
    result = outer.snakemake("--cores", "2", "part.txt")
    assert result.returncode == 0, result.stdout
    assert outer.rows() == project.undisturbed(STUDY, tmp_path / "clean")
    assert outer.plan("part.txt") == {}


@pytest.mark.ci
def test_a_damaged_look_is_taken_again(copy: Adaptive) -> None:
    look, study = copy.results / "looks" / "look1.json", copy.study(STUDY)
    look.write_text("{", encoding="utf-8")
    assert copy.planned(*study) == {"look": 1, "collect": 1, "ended": 1}
    assert copy.run(*study).returncode == 0
    assert copy.planned(*study) == {}


def test_fixed_seeds_have_no_looks(copy: Adaptive) -> None:
    """The runs that the looks have asked for are kept where their number of seeds is fixed later."""
    plan = copy.plan(*copy.study({**STUDY, "seeds": 3}))
    assert not {"look", "ended"} & set(plan)
    assert plan["train"] == CELLS * 3 - sum(int(path.name) < 3 for path in runs_of(copy))


@pytest.mark.ci
def test_a_real_study_is_killed_between_looks_and_ends_as_if_it_was_not(project: Project, tmp_path: Path) -> None:
    """With the real trainer and the real rule, from the first run to MLflow."""
    study: dict[str, Any] = {**STUDY, "name": "real", "variants": ["qkv", "kv"], "tasks": {"copy": SECTION}}
    chosen, folder = project.study(study), project.folder / "results" / "real"
    process = project.start("--cores", "2", *chosen)
    wait_for(process, lambda: (folder / "runs/copy/default/kv/seed2/progress").exists())
    kill(process)
    before = looks_taken(folder)
    assert [record.look for record in before] == [1]
    between = project.snakemake("--unlock", *chosen)
    assert between.returncode == 0, between.stdout

    result = project.snakemake("--cores", "2", *chosen)
    assert result.returncode == 0, result.stdout
    assert "Nothing to be done" in project.snakemake("--cores", "2", *chosen).stdout
    taken = looks_taken(folder)
    assert taken[:1] == before and (len(taken) == 3 or not taken[-1].open)
    asked = read_manifest(folder).runs
    assert f"Study 'real' is complete: {len(asked)} runs" in result.stdout
    for run in load_study(study).runs()[:3]:
        train_run(run, tmp_path / run.path, tmp_path, device="cpu")
        assert results(folder / run.path) == results(tmp_path / run.path)
    with sqlite3.connect(project.folder / "results" / "mlflow" / "mlflow.db") as store:
        names = {name for (name,) in store.execute("select name from runs where name like '%/seed_'")}
    assert names == {run.path.removeprefix("runs/") for run in asked}
    assert (folder / "report.html").is_file()
