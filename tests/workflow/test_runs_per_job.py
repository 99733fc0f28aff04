"""One job trains several runs of a setting: what Snakemake plans, deletes and brings back."""

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkout import Project, copy_project

STUDY: dict[str, Any] = {
    "name": "many",
    "variants": ["qkv", "kv"],
    "tasks": {
        name: {
            "data": {"length": 4, "train_examples": 40, "validation_examples": 20, "test_examples": 20},
            "model": {"dim": 16, "layers": 1, "heads": 2},
            "training": {"steps": 5, "batch_size": 8, "evaluations": 1},
        }
        for name in ("copy", "reverse")
    },
}


def study(project: Project, runs_per_job: int, seeds: int = 2, **execution: Any) -> tuple[str, ...]:
    """Arguments of Snakemake that stop before the analysis."""
    execution = {"device": "cpu", "runs_per_job": runs_per_job, **execution}
    return ("--until", "collect", *project.study({**STUDY, "seeds": seeds, "execution": execution}))


def run(project: Project, *arguments: str) -> None:
    result = project.snakemake("--cores", "2", *arguments)
    assert result.returncode == 0, result.stdout


def trained(project: Project) -> list[str]:
    """The runs that were trained since their logs were deleted."""
    folder = project.folder / "results/many/logs/runs"
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix()
        for path in folder.glob("*/default/*/seed*.log")
        if "step 5/5" in path.read_text(encoding="utf-8")
    )


def forget_logs(project: Project) -> None:
    shutil.rmtree(project.folder / "results/many/logs/runs")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the study has been trained, one run per job. Tests work with copies."""
    project = copy_project(tmp_path_factory.mktemp("done") / "a folder")
    run(project, *study(project, 1))
    return project


@pytest.fixture
def copy(done: Project, tmp_path: Path) -> Project:
    """A copy with .snakemake, in which no log says that anything was trained."""
    project = Project(shutil.copytree(done.folder, tmp_path / "a folder"))
    forget_logs(project)
    return project


def test_how_many_runs_share_a_job_changes_nothing(copy: Project) -> None:
    assert [copy.plan(*study(copy, size)) for size in (8, 3)] == [{}, {}]
    plan = copy.plan(*study(copy, 4, seeds=3))
    assert plan == {"study": 1, "train_many_1": 2, "train_many_2": 2, "collect": 1}
    run(copy, *study(copy, 4, seeds=3))
    assert trained(copy) == [
        f"{task}/default/{variant}/seed2" for task in ("copy", "reverse") for variant in ("kv", "qkv")
    ]
    assert copy.plan(*study(copy, 1, seeds=3)) == {}


@pytest.mark.ci
def test_finished_runs_survive_without_an_archive(copy: Project) -> None:
    """Snakemake deletes all outputs of a job before it starts, those of finished runs as well."""
    shutil.rmtree(copy.folder / "results/archive")
    run(copy, *study(copy, 8, seeds=3, reuse=False))
    assert len(trained(copy)) == 4 and all(name.endswith("seed2") for name in trained(copy))


def test_finished_runs_that_cannot_be_archived_stop_the_study_before_they_are_deleted(copy: Project) -> None:
    path = copy.folder / "src/kvformer/training/archive.py"
    start, text = "        run = RunFolder(out)\n", path.read_text(encoding="utf-8")
    assert text.count(start) == 1
    path.write_text(text.replace(start, f'        raise OSError(28, "full")\n{start}'), encoding="utf-8")
    result = copy.snakemake("--cores", "2", *study(copy, 8, seeds=3))
    assert result.returncode != 0 and "Traceback" not in result.stdout
    assert "results/archive: finished runs could not be archived ([Errno 28] full); " in result.stdout
    assert len([*copy.folder.glob("results/many/runs/*/*/*/*/summary.json")]) == 8


def test_a_changed_variant_trains_its_runs_only(copy: Project) -> None:
    path = copy.folder / "src/kvformer/spec/variants.py"
    change = "from dataclasses import replace\nVARIANTS['kv'] = replace(VARIANTS['kv'], widen_mlp=True)\n"
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{change}", encoding="utf-8")
    assert copy.plan(*study(copy, 1)) == {"train": 4, "collect": 1}
    assert copy.plan(*study(copy, 8)) == {"train_many_1": 2, "collect": 1}
    run(copy, *study(copy, 8))
    assert trained(copy) == [f"{task}/default/kv/seed{seed}" for task in ("copy", "reverse") for seed in (0, 1)]
    log = (copy.folder / "results/many/logs/runs/copy/default/job1.log").read_text(encoding="utf-8")
    assert log.count("taken over from many/runs/copy/default/qkv/") == 2


@pytest.mark.ci
def test_a_changed_setting_trains_its_task_only(copy: Project) -> None:
    arguments = study(copy, 8)
    text = (copy.folder / arguments[-1]).read_text(encoding="utf-8")
    changed = re.sub(r"(copy:(?:\n .*)*?\n +)steps: 5", r"\1steps: 6", text)
    assert changed != text
    (copy.folder / arguments[-1]).write_text(changed, encoding="utf-8")
    assert copy.plan(*arguments) == {"study": 1, "train_many_1": 1, "collect": 1}
    assert copy.plan("--rerun-triggers", "mtime", *arguments[:2], *arguments[2:]) == {}


@pytest.mark.ci
def test_a_failed_run_takes_no_other_with_it(copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run fails while a variable of the environment says so, in the retry as well."""
    copy.break_training("BROKEN == self.run.path")

    monkeypatch.setenv("BROKEN", "runs/copy/default/kv/seed1")
    result = copy.snakemake("--cores", "1", "--retries", "1", *study(copy, 8))
    assert result.returncode != 0
    assert "failed: ValueError: broken; see results/many/logs/runs/copy/default/kv/seed1.log" in result.stdout
    assert len(trained(copy)) == 7
    with (copy.folder / "results/many/runs.csv").open(newline="") as stream:
        found = {(row["task"], row["variant"], row["seed"]): row["status"] for row in csv.DictReader(stream)}
    assert found.pop(("copy", "kv", "1")) == "failed"
    assert set(found.values()) == {"finished"} and len(found) == 7

    monkeypatch.delenv("BROKEN")
    forget_logs(copy)
    run(copy, *study(copy, 8))
    assert trained(copy) == ["copy/default/kv/seed1"]
    assert copy.plan(*study(copy, 1)) == {}


def test_a_job_asks_for_what_its_runs_need_one_after_the_other(copy: Project) -> None:
    content = {**STUDY, "seeds": 3, "execution": {"device": "cpu", "runs_per_job": 8}}
    resources = {"copy": {"runtime": 10, "mem_mb": 700}, "reverse": {"runtime": 600, "mem_mb": 800, "gpu": 1}}
    content["tasks"] = {name: {**STUDY["tasks"][name], "resources": resources[name]} for name in resources}
    rules = copy.folder / "workflow/rules/train_many.smk"
    shown = ("mem_mb", "runtime", "gpu", "slurm_extra")
    message = "{{wildcards.setting}})" + "".join(f" {name}={{{{resources.{name}}}}}" for name in shown)
    text = rules.read_text(encoding="utf-8")
    rules.write_text(text.replace("{{wildcards.setting}})", message), encoding="utf-8")
    given = ("--set-resources", "train:slurm_extra='--signal=USR1@120'")
    printed = copy.snakemake("--dry-run", "--forceall", "--until", "collect", *given, *copy.study(content)).stdout
    jobs = dict(re.findall(r"Train 6 runs of (\w+) \(default\) (.*)", printed))
    assert jobs == {
        "copy": "mem_mb=700 runtime=60 gpu=0 slurm_extra=--signal=USR1@120",
        "reverse": "mem_mb=800 runtime=1440 gpu=1 slurm_extra=--signal=USR1@120",
    }
