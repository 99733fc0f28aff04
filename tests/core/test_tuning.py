"""Tuning before comparing: what is tried, and the runs at the values that were chosen."""

import json
from pathlib import Path
from typing import Any

import pytest

from kvformer.cli import main
from kvformer.config.loading import load_study, single_run
from kvformer.config.run import RunConfig, runs_of
from kvformer.config.study import StudyConfig
from kvformer.config.tuning import at_chosen, tuning_manifest, tuning_runs
from kvformer.errors import ConfigError
from kvformer.records.study import StudyManifest
from kvformer.records.tuning import TunedCell, TuningChoice
from kvformer.tasks import TASKS

RATES = {"training.learning_rate": [3e-4, 1e-3]}
TASK = {"data": {"length": 8}, "model": {"dim": 16, "layers": 1, "heads": 2}, "training": {"steps": 5}}


def study(tuning: Any = None, seeds: Any = 2, **tasks: Any) -> StudyConfig:
    content = {"name": "s", "variants": ["qkv", "kv"], "seeds": seeds, "tuning": tuning or {"grid": RATES}}
    return load_study({**content, "tasks": tasks or {"sort": TASK}})


def chosen(rate: float, **labels: str) -> TunedCell:
    values = {"training.learning_rate": rate}
    return TunedCell(
        **{"task": "sort", "setting": "default", **labels}, metric="", goal="max", chosen=values, trials=[]
    )


def test_every_variant_gets_the_same_trials_on_seeds_that_are_not_reported() -> None:
    runs = tuning_runs(study())
    budget = [(run.training.learning_rate, run.seed) for run in runs if run.variant == "kv"]
    assert budget == [(3e-4, 9000), (3e-4, 9001), (1e-3, 9000), (1e-3, 9001)]
    assert budget == [(run.training.learning_rate, run.seed) for run in runs if run.variant == "qkv"]
    assert len({run.path for run in runs}) == len(runs) == 8
    assert {run.seed for run in tuning_runs(study({"grid": RATES, "seeds": [77, 5]}))} == {5, 77}


def test_every_combination_is_tried_at_every_setting() -> None:
    grid = {**RATES, "model.mlp_ratio": [1, 2, 4]}
    content = study({"grid": grid, "seeds": 1}, sort={**TASK, "grid": {"model.layers": [1, 2]}})
    manifest = tuning_manifest(content)
    assert len(manifest.runs) == 2 * 2 * 3 * 2
    first = manifest.settings[0]
    assert (first.setting, first.tried_for) == ("layers1-learning_rate0.0003-mlp_ratio1", "layers1")
    assert first.tried == {"training.learning_rate": 3e-4, "model.mlp_ratio": 1.0}
    assert [run.hash for run in runs_of(manifest)] == [run.hash for run in tuning_runs(content)]


def test_a_task_may_be_tuned_in_another_way_or_not_at_all() -> None:
    own = {"grid": {"training.weight_decay": [0, 0.1]}, "seeds": 1}
    runs = tuning_runs(study(sort=TASK, copy={**TASK, "tuning": own}, swap={**TASK, "tuning": None}))
    assert {run.task: run.overrides.keys() for run in runs} == {
        "sort": {"training.learning_rate"},
        "copy": {"training.weight_decay"},
    }
    assert tuning_runs(load_study({"name": "s", "tasks": {"sort": TASK}})) == []


def test_tuned_runs_are_those_of_a_study_with_these_values() -> None:
    """Their hash decides what is trained again, and what is taken over."""
    cells = [chosen(3e-4, variant="qkv"), chosen(1e-3, variant="kv")]
    found = list(at_chosen(study().runs(), TuningChoice(cells=cells)))
    for variant, rate in (("qkv", 3e-4), ("kv", 1e-3)):
        training = {"steps": 5, "learning_rate": rate}
        fixed = load_study(
            {"name": "s", "variants": ["qkv", "kv"], "seeds": 2, "tasks": {"sort": TASK | {"training": training}}}
        )
        expected = [(run.path, run.hash) for run in fixed.runs() if run.variant == variant]
        assert [(run.path, run.hash) for run, _ in found if run.variant == variant] == expected
        assert {entry.hash for _, entry in found if entry.variant == variant} == {hash for _, hash in expected}


def test_study_json_holds_the_runs_at_the_chosen_values(tmp_path: Path) -> None:
    whole = study(sort=TASK, copy={**TASK, "tuning": None})
    found = [entry for _, entry in at_chosen(whole.runs(), TuningChoice(cells=[chosen(3e-4, variant="kv")]))]
    whole.manifest().model_copy(update={"runs": found}).write(tmp_path / "study.json")
    read = StudyManifest.load(tmp_path / "study.json")
    rates = {(run.task, run.variant): run.training.learning_rate for run in runs_of(read)}
    assert rates == {("sort", "qkv"): 1e-3, ("sort", "kv"): 3e-4, ("copy", "qkv"): 1e-3, ("copy", "kv"): 1e-3}
    assert [run.hash for run in runs_of(read)] == [run.hash for run in read.runs]
    content = json.loads((tmp_path / "study.json").read_text())
    assert sum("tuned" in run for run in content["runs"]) == 2, "others are written as they were before"


def test_a_duration_that_is_tuned_replaces_the_other_kind() -> None:
    content = study({"grid": {"training.epochs": [1, 2]}, "seeds": 1})
    assert {(run.training.epochs, run.training.steps) for run in tuning_runs(content)} == {(1.0, None), (2.0, None)}


def test_looks_and_tuning_go_together() -> None:
    content = study({"grid": RATES, "seeds": 1}, seeds={"looks": [2, 4]})
    manifest = tuning_manifest(content)
    assert len(manifest.asked([])) == len(manifest.runs) == 4
    assert len(content.runs()) == 8


def test_one_run_of_a_tuned_study_can_be_trained_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps({"tuning": {"grid": RATES}, "tasks": {"sort": TASK}}))
    run, _ = single_run("sort", "kv", 9000, path)
    assert (run.seed, run.training.learning_rate) == (9000, 1e-3)


def test_the_plan_lists_the_trials_and_what_waits_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        json.dumps({"tuning": {"grid": RATES}, "variants": ["qkv", "kv"], "seeds": 2, "tasks": {"sort": TASK}})
    )
    assert main(["plan", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("tuning/runs/sort/learning_rate") for line in lines) == 8
    assert "runs/sort/default/kv/seed1 tuned" in lines
    assert "tuning: first 8 runs on seeds 9000, 9001, which are not reported; then 4 at the chosen values" in lines


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        ({}, ["tuning.grid: is empty"]),
        ({"grid": {}}, ["tuning.grid: is empty", "training.learning_rate"]),
        ({"grid": {"training.learning_rate": []}}, ["tuning.grid.training.learning_rate"]),
        ({"grid": RATES, "seeds": []}, ["tuning.seeds"]),
        ({"grid": RATES, "seeds": 0}, ["tuning.seeds", "0"]),
        ({"grid": RATES, "seeds": [-1]}, ["tuning.seeds"]),
        ({"grid": RATES, "seeds": [7, 7]}, ["tuning.seeds", "twice", "7"]),
        ({"grid": RATES, "seeds": [1, 9, 0]}, ["tuning.seeds", "0, 1 would be tuned on and reported", "sort"]),
        ({"grid": {"training.lr": [1]}}, ["tuning.grid", "'training.lr'", "training.learning_rate"]),
        ({"grid": {"data.length": [8]}}, ["tuning.grid", "'data.length'"]),
        ({"grid": {"training.threads": [1, 2]}}, ["tuning.grid", "'training.threads'"]),
        ({"grid": {"training.learning_rate": [0]}}, ["tuning.grid (sort)", "training.learning_rate", "greater than 0"]),
        ({"grid": {"model.heads": [3]}}, ["tuning.grid (sort)", "multiple of heads"]),
        ({"grid": {"training.learning_rate": [0.001, 1e-3]}}, ["tuning.grid", "twice"]),
        ({"grid": RATES, "seed": 3}, ["tuning.seed", "did you mean 'seeds'"]),
        ([1], ["tuning: must be a mapping"]),
    ],
)
def test_what_cannot_be_tuned_is_one_line(tuning: Any, words: list[str]) -> None:
    for content in ({"tuning": tuning, "tasks": {"sort": TASK}}, {"tasks": {"sort": {**TASK, "tuning": tuning}}}):
        with pytest.raises(ConfigError) as caught:
            load_study({"name": "s", "seeds": 2, **content})
        assert "\n" not in str(caught.value)
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_key_is_compared_or_tuned_but_not_both() -> None:
    for part in ({"grid": {"training.learning_rate": [1e-3]}}, {"settings": {"a": {"training.learning_rate": 1e-3}}}):
        with pytest.raises(
            ConfigError, match=r"tuning.grid: 'training.learning_rate' is in .* tasks.sort.tuning: null"
        ):
            study(sort={**TASK, **part})
        assert tuning_runs(study(sort={**TASK, **part, "tuning": None})) == []


@pytest.mark.parametrize(
    ("task", "protocol", "reason"),
    [
        ("mnist", "published", "test images"),
        ("cifar10", "published", "trained on"),
        ("characters", "published", "its validation split is reported"),
        ("numbers", "corrected", "no test split"),
    ],
)
def test_values_are_not_chosen_on_what_is_reported(task: str, protocol: str, reason: str) -> None:
    content = {"tuning": {"grid": RATES}, "protocol": protocol, "tasks": {task: {}}}
    with pytest.raises(ConfigError, match=f"tuning: {task} cannot be tuned: .*{reason}.*tasks.{task}.tuning: null"):
        load_study(content)
    load_study({**content, "tasks": {task: {"tuning": None}}})


def test_all_other_tasks_can_be_tuned_under_the_corrected_protocol() -> None:
    tasks: dict[str, Any] = {name: {} for name in TASKS if name not in ("numbers", "tiny_imagenet")}
    content = load_study(
        {"tuning": {"grid": {"training.weight_decay": [0.0, 0.1]}}, "protocol": "corrected", "tasks": tasks}
    )
    assert {run.task for run in tuning_runs(content)} == set(tasks)


def test_values_that_are_not_allowed_any_more_are_one_line() -> None:
    run: RunConfig = study().runs()[0]
    with pytest.raises(ConfigError, match="multiple of heads"):
        run.tuned({"model.heads": 3})
