"""Nuisance grids: selection by validation only, equal budgets, edges."""

from pathlib import Path

import pandas as pd
import pytest
from fake_study import BEST_RATE

from kvformer.analysis import nuisance
from kvformer.analysis.frames import load_runs, scores
from kvformer.analysis.study import Study, read_study


@pytest.fixture(scope="module")
def study(collected: Path) -> Study:
    return read_study(collected)


@pytest.fixture
def runs(collected: Path) -> pd.DataFrame:
    return load_runs(collected)


def test_every_variant_gets_its_own_best_rate(runs: pd.DataFrame, study: Study) -> None:
    tuned, choices = nuisance.select(runs, study)
    assert dict(zip(choices["variant"], choices["chosen"], strict=True)) == {
        variant: f"lr{rate}" for variant, rate in BEST_RATE.items()
    }
    sort = tuned[tuned["task"] == "sort"]
    assert set(sort["setting"]) == {"default"} and len(sort) == 18
    original = scores(runs)
    same = original[(original["task"] == "sort") & (original["setting"] == "lr0.01") & (original["variant"] == "kv")]
    assert sorted(sort.loc[sort["variant"] == "kv", "value"]) == sorted(same["value"])


def test_other_tasks_pass_unchanged(runs: pd.DataFrame, study: Study) -> None:
    tuned, _ = nuisance.select(runs, study)
    before = scores(runs)
    pd.testing.assert_frame_equal(
        tuned[tuned["task"] != "sort"].reset_index(drop=True), before[before["task"] != "sort"].reset_index(drop=True)
    )


def test_the_choice_never_looks_at_the_test_split(runs: pd.DataFrame, study: Study) -> None:
    chosen = nuisance.select(runs, study)[1]["chosen"]
    lured = runs.copy()
    test = (lured["task"] == "sort") & (lured["metric"] == "test/accuracy") & (lured["setting"] == "lr0.0001")
    lured.loc[test, "value"] = 1.0
    assert list(nuisance.select(lured, study)[1]["chosen"]) == list(chosen)
    validation = (
        (lured["task"] == "sort") & (lured["metric"] == "validation/accuracy") & (lured["setting"] == "lr0.0001")
    )
    lured.loc[validation, "value"] = 1.0
    assert set(nuisance.select(lured, study)[1]["chosen"]) == {"lr0.0001"}


def test_the_edge_of_the_grid_is_flagged(runs: pd.DataFrame, study: Study) -> None:
    edges = nuisance.select(runs, study)[1].set_index("variant")["edge"]
    assert edges["kv"] == "learning_rate at its highest" and edges["qkv"] == edges["kv_pos"] == ""


def test_unequal_budgets_are_flagged(runs: pd.DataFrame, study: Study) -> None:
    assert nuisance.select(runs, study)[1]["equal_budget"].all()
    cut = (runs["task"] == "sort") & (runs["variant"] == "kv") & (runs["setting"] == "lr0.0001") & (runs["seed"] == 0)
    choices = nuisance.select(runs[~(cut & (runs["metric"] == "validation/accuracy"))], study)[1]
    assert not choices["equal_budget"].any()
    assert dict(zip(choices["variant"], choices["budget"], strict=True)) == {"qkv": 18, "kv": 17, "kv_pos": 18}


def test_a_point_with_a_lost_seed_is_not_chosen(runs: pd.DataFrame, study: Study) -> None:
    lost = (runs["task"] == "sort") & (runs["variant"] == "kv") & (runs["setting"] == "lr0.01") & (runs["seed"] == 1)
    runs.loc[lost, "status"] = "diverged"
    assert nuisance.select(runs, study)[1].set_index("variant")["chosen"]["kv"] == "lr0.001"


def test_without_any_finished_run_the_lost_ones_stay_visible(runs: pd.DataFrame, study: Study) -> None:
    runs.loc[(runs["task"] == "sort") & (runs["variant"] == "kv"), "status"] = "failed"
    tuned, choices = nuisance.select(runs, study)
    assert choices.set_index("variant")["runs"]["kv"] == 0
    kept = tuned[(tuned["task"] == "sort") & (tuned["variant"] == "kv")]
    assert len(kept) == 6 and set(kept["status"]) == {"failed"}


def test_own_best_is_compared_and_the_baselines_best_too(runs: pd.DataFrame, study: Study) -> None:
    table = nuisance.comparison(scores(runs), nuisance.select(runs, study)[1], study).set_index("variant")
    assert table.loc["kv", "difference_own"] == pytest.approx(-0.0133, abs=0.001)
    assert table.loc["kv", "difference_fixed"] == pytest.approx(-0.0422, abs=0.001)
    assert table.loc["kv_pos", "difference_own"] == table.loc["kv_pos", "difference_fixed"]


def test_other_grid_keys_name_what_is_left(study: Study, runs: pd.DataFrame) -> None:
    changed = [
        run.model_copy(update={"overrides": {**run.overrides, "model.dim": 64}}) if run.task == "sort" else run
        for run in study.runs
    ]
    _, choices = nuisance.select(runs, Study(study.manifest.model_copy(update={"runs": changed})))
    assert set(choices["setting"]) == {"dim=64"}
