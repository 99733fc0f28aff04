"""Tuning before comparing, in the workflow: one command, resumed and changed; trials that fail block nothing."""

import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from checkout import Project, copy_project

from kvformer.records.run import RunFolder
from kvformer.records.study import looks_taken

STUDY: dict[str, Any] = {
    "name": "tuned",
    "seeds": 2,
    "variants": ["qkv", "kv"],
    "tuning": {"grid": {"training.learning_rate": [1e-9, 1e-2]}, "seeds": 1},
    "tasks": {
        "sort": {
            "data": {"length": 8, "train_examples": 500, "validation_examples": 100, "test_examples": 100},
            "model": {"dim": 16, "layers": 1, "heads": 2},
            "training": {"steps": 20, "batch_size": 50, "evaluations": 1},
        }
    },
    "execution": {"device": "cpu", "reuse": False},
}
FOLDER = Path("results", "tuned")
TRIAL = "runs/sort/learning_rate0.01/kv/seed9000"
REPORTING = dict.fromkeys(("collect", "analyse", "tables", "figures", "report", "crate", "track", "all"), 1)


COLLECTED = (
    "--",
    *((FOLDER / name).as_posix() for name in ("runs.csv", "tuning.json", f"tuning/{TRIAL}/summary.json")),
)
"""The study without its reports."""


def run(project: Project, study: dict[str, Any], *targets: str) -> list[str]:
    """Run the study to its end, or to its targets; returns what was trained."""
    result = project.snakemake("--cores", "2", *project.study(study), *targets)
    assert result.returncode == 0, result.stdout[-5000:]
    lines = [line.partition(": ")[2] for line in result.stdout.splitlines() if line.startswith("Job ")]
    return sorted(line for line in lines if line.startswith(("Train", "Try")))


def rates(project: Project) -> dict[str, list[float]]:
    """The learning rates of the reported runs by variant, from their folders; study.json must say the same."""
    study = json.loads((project.folder / FOLDER / "study.json").read_text())
    found: dict[str, list[float]] = {}
    for entry in study["runs"]:
        config = json.loads((project.folder / FOLDER / entry["path"] / "config.json").read_text())
        assert config["hash"] == entry["hash"]
        assert config["training"]["learning_rate"] == entry["tuned"]["training.learning_rate"]
        found.setdefault(entry["variant"], []).append(config["training"]["learning_rate"])
    return found


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the study has run to its end, after it was planned. A setting of kv can be made to fail."""
    project = copy_project(tmp_path_factory.mktemp("tuned") / "a folder")
    project.break_training('BROKEN == f"{self.run.setting}/{self.run.variant}"')
    plan = project.plan(*project.study(STUDY))
    assert plan == {"tune": 4, "tuning_study": 1, "collect_tuning": 1, "choose": 1, "train": 4, "study": 1, **REPORTING}
    assert "first 4 runs on seeds 9000, which are not reported; then 4 at" in project.output()
    assert len(run(project, STUDY)) == 8
    return project


def test_the_reported_runs_have_the_chosen_values(tuned: Project) -> None:
    assert rates(tuned) == {"qkv": [0.01, 0.01], "kv": [0.01, 0.01]}
    assert "warning: On Sort, the best values of kv (learning rate 0.01) end the tuning grid" in tuned.output()
    page = (tuned.folder / FOLDER / "report.html").read_text(encoding="utf-8")
    assert page.count("end the tuning grid") == 2
    assert "9000" not in (tuned.folder / FOLDER / "runs.csv").read_text()


def test_a_profiles_entries_for_train_hold_for_trials_that_have_none_of_their_own(project: Project) -> None:
    rules = project.folder / "workflow" / "rules" / "tuning.smk"
    shown, text = "seed {wildcards.seed}", rules.read_text(encoding="utf-8")
    assert text.count(shown) == 1
    rules.write_text(text.replace(shown, "{resources.slurm_extra} runtime={resources.runtime}"), encoding="utf-8")
    given = ("train:slurm_extra='--signal=USR1@120'", "train:runtime=5", "tune:runtime=7")
    printed = project.snakemake("--dry-run", "--set-resources", *given, *project.study(STUDY)).stdout
    assert printed.count("on sort, --signal=USR1@120 runtime=7") == 4, printed


@pytest.mark.ci
def test_the_study_is_resumed_and_changed(tuned: Project) -> None:
    assert tuned.plan(*tuned.study(STUDY)) == {}

    more = {**STUDY, "seeds": 3}
    assert tuned.plan(*tuned.study(more)) == {"train": 2, "study": 1, **REPORTING}

    (tuned.folder / FOLDER / "tuning.json").unlink()
    assert run(tuned, STUDY, *COLLECTED) == [], "the same choice trains nothing"
    assert "train" not in tuned.plan(*tuned.study(STUDY))

    # The best trial of kv is lost, and that of qkv stays: only kv is trained again.
    (tuned.folder / FOLDER / "tuning" / TRIAL / "summary.json").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BROKEN", "learning_rate0.01/kv")
        trained = run(tuned, STUDY, *COLLECTED)
    assert set(trained) == {
        "Try learning_rate0.01 for kv on sort, seed 9000",
        "Train kv on sort (default), seed 0",
        "Train kv on sort (default), seed 1",
    }
    assert rates(tuned) == {"qkv": [0.01, 0.01], "kv": [1e-9, 1e-9]}
    log = (tuned.folder / FOLDER / "logs" / "choose.log").read_text(encoding="utf-8")
    assert "1 of 2 tuning runs of kv did not finish" in log

    # The next start tries it again.
    assert set(run(tuned, STUDY, *COLLECTED)) == set(trained)
    assert rates(tuned) == {"qkv": [0.01, 0.01], "kv": [0.01, 0.01]}
    assert tuned.plan(*tuned.study(STUDY), *COLLECTED) == {}


@pytest.mark.ci
def test_tuning_and_looks_in_one_study(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the trials to the report. A trial that is killed each time stops nothing; the next start repeats it."""
    broken = 'BROKEN == f"{self.run.setting}/{self.run.variant}"'
    project.break_training(f'{broken} and __import__("os").kill(__import__("os").getpid(), 9)')
    study = {**STUDY, "seeds": {"looks": [2, 3]}}
    plan = project.plan(*project.study(study))
    assert (plan["tune"], plan["choose"], plan["train"], plan["look"]) == (4, 1, 4, 1)

    monkeypatch.setenv("BROKEN", "learning_rate0.01/kv")
    trained = run(project, study)
    assert sum(line.startswith("Train") for line in trained) == 6
    trial = RunFolder(project.folder / FOLDER / "tuning" / TRIAL)
    assert trial.given_up and (failure := trial.failure()) is not None and "signal 9" in failure.error
    assert rates(project) == {"qkv": [0.01] * 3, "kv": [1e-9] * 3}
    messages = re.findall(
        r"^Job \d+: (Try|Choose|Train|Look \d|Compute|Write the report)", project.output(), re.MULTILINE
    )
    order = [kind for kind, _ in groupby(messages)]
    assert order == ["Try", "Choose", "Train", "Look 1", "Train", "Look 2", "Compute", "Write the report"]
    page = (project.folder / FOLDER / "report.html").read_text(encoding="utf-8")
    assert "1 of 2 tuning runs of kv did not finish" in page

    monkeypatch.delenv("BROKEN")
    trained = run(project, study)
    assert {line.partition(" for ")[0] for line in trained if line.startswith("Try")} == {"Try learning_rate0.01"}
    assert {line.split()[1] for line in trained if line.startswith("Train")} == {"kv"}
    assert rates(project) == {"qkv": [0.01] * 3, "kv": [0.01] * 3}
    assert not trial.failure_file.exists() and [look.look for look in looks_taken(project.folder / FOLDER)] == [1, 2]
    assert project.plan(*project.study(study)) == {}
