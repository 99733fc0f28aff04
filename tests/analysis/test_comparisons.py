"""Means, paired differences and aggregates of the fake study."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_study import DIVERGED, FAILED, MISSING
from scipy import stats

from kvformer.analysis import comparisons, statistics, testing
from kvformer.analysis.decisions import paired_differences
from kvformer.analysis.frames import load_runs, scores
from kvformer.analysis.results import Results
from kvformer.analysis.study import Study, read_study
from kvformer.errors import KvformerError
from kvformer.files import read_json


@pytest.fixture(scope="module")
def study(collected: Path) -> Study:
    return read_study(collected)


@pytest.fixture(scope="module")
def frame(collected: Path) -> pd.DataFrame:
    return scores(load_runs(collected))


def values(results: Path, task: str, setting: str, variant: str, seeds: range = range(6)) -> np.ndarray:
    folders = [results / f"runs/{task}/{setting}/{variant}/seed{seed}" for seed in seeds]
    return np.array([read_json(folder / "summary.json")["metrics"]["test/accuracy"] for folder in folders])


def row(table: pd.DataFrame, **keys: str) -> pd.Series:
    found = table[(table[list(keys)] == list(keys.values())).all(axis=1)]
    assert len(found) == 1
    return found.iloc[0]


def test_names_that_look_like_numbers_or_nothing_stay_text(collected: Path, tmp_path: Path) -> None:
    text = (collected / "runs.csv").read_text()
    (tmp_path / "runs.csv").write_text(text.replace(",default,", ",64,").replace(",kv_pos,", ",nan,"))
    runs = load_runs(tmp_path)
    assert "64" in set(runs["setting"]) and "nan" in set(runs["variant"])
    assert runs["value"].dtype == float and runs["primary"].dtype == bool


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "kvformer collect"), ("task,seed\na,1\n", "has no column family"), ("", "not readable")],
)
def test_bad_runs_csv_is_one_clear_line(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(KvformerError, match=words) as caught:
        load_runs(tmp_path)
    assert "runs.csv" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("seed", "words"), [("", "a row has no seed"), ("x", "column seed must hold numbers")])
def test_a_damaged_seed_is_one_clear_line(collected: Path, tmp_path: Path, seed: str, words: str) -> None:
    head, first, *rest = (collected / "runs.csv").read_text().splitlines()
    damaged = first.split(",")
    damaged[head.split(",").index("seed")] = seed
    (tmp_path / "runs.csv").write_text("\n".join([head, *rest, ",".join(damaged)]) + "\n")
    with pytest.raises(KvformerError, match=rf"runs\.csv: {words}"):
        load_runs(tmp_path)


def test_mean_of_one_setting(collected: Path, frame: pd.DataFrame, study: Study) -> None:
    found = row(comparisons.summarise(frame, study), task="reverse", variant="kv")
    ours = values(collected, "reverse", "default", "kv")
    assert (found["n"], found["expected"], found["setting"]) == (6, 6, "default")
    assert found["mean"] == pytest.approx(ours.mean())
    assert found["high"] - found["low"] == pytest.approx(2 * 2.5706 * ours.std(ddof=1) / np.sqrt(6), rel=1e-4)
    assert (found["minimum"], found["maximum"]) == (ours.min(), ours.max())
    assert found["parameters"] == 64266


def test_mean_over_a_grid_keeps_seed_and_setting_spread_apart(
    collected: Path, frame: pd.DataFrame, study: Study
) -> None:
    found = row(comparisons.summarise(frame, study), task="copy", variant="kv")
    groups = [values(collected, "copy", setting, "kv") for setting in ("dim64", "dim128")]
    assert found["setting"] == "all" and found["n"] == 12
    assert (found["seed_sd"], found["setting_sd"]) == statistics.spreads(groups)
    per_setting = comparisons.summarise(frame, study, by_setting=True)
    assert row(per_setting, task="copy", setting="dim64", variant="kv")["n"] == 6


def test_lost_runs_are_named_and_counted(frame: pd.DataFrame, study: Study, results: Results) -> None:
    table = comparisons.summarise(frame, study)
    copy = row(table, task="copy", variant="kv_pos")
    assert (copy["n"], copy["expected"]) == (11, 12)
    lost = results.incomplete[["task", "setting", "variant", "seed", "status"]].itertuples(index=False, name=None)
    assert list(lost) == [(*DIVERGED, "diverged"), (*FAILED, "failed"), (*MISSING, "missing")]
    assert "no space left on device" in results.incomplete["reason"].iloc[1]


def test_differences_are_paired_by_seed(collected: Path, frame: pd.DataFrame, study: Study) -> None:
    found = row(paired_differences(frame, study), task="reverse", variant="kv")
    differences = values(collected, "reverse", "default", "kv") - values(collected, "reverse", "default", "qkv")
    assert (found["difference"], found["n"]) == (pytest.approx(differences.mean()), 6)
    assert found["high"] - found["low"] == pytest.approx(2 * 2.5706 * differences.std(ddof=1) / np.sqrt(6), rel=1e-4)
    assert (found["favourable"], found["unfavourable"]) == (0, 6)
    assert found["p"] == pytest.approx(stats.ttest_1samp(differences, 0).pvalue) and found["test"] == "t"
    # The seeds' common part cancels: the paired interval is far narrower than that of either mean.
    summary = row(comparisons.summarise(frame, study), task="reverse", variant="kv")
    assert found["high"] - found["low"] < 0.6 * (summary["high"] - summary["low"])


def test_incomplete_pairs_are_left_out_and_named(frame: pd.DataFrame, study: Study) -> None:
    table = paired_differences(frame, study)
    found = row(table, task="mnist", variant="kv")
    assert (found["n"], found["unpaired"]) == (5, "kv default seed 2: failed")
    lost_baseline = frame[~((frame["variant"] == "kv") & (frame["task"] == "mnist"))].copy()
    here = (lost_baseline["task"] == "mnist") & (lost_baseline["variant"] == "qkv") & (lost_baseline["seed"] == 0)
    lost_baseline.loc[here, "status"] = "failed"
    found = row(paired_differences(lost_baseline, study), task="mnist", variant="kv_pos")
    assert found["n"] == 4
    assert found["unpaired"] == "kv_pos default seed 5: missing; qkv default seed 0: failed"


def test_verdicts_follow_the_goal(frame: pd.DataFrame, study: Study) -> None:
    table = paired_differences(frame, study).set_index(["task", "variant"])["verdict"]
    assert table["reverse", "kv"] == "worse"
    assert table["reverse", "kv_pos"] == table["mnist", "kv"] == "equivalent"
    assert table["copy", "kv"] == "both solve"
    assert table["characters", "kv"] == "worse", "a higher loss is worse"


def test_p_are_adjusted_over_the_tasks_of_a_variant(frame: pd.DataFrame, study: Study) -> None:
    table = paired_differences(frame, study)
    for variant in ("kv", "kv_pos"):
        own = table[table["variant"] == variant]
        assert len(own) == 5
        names = ("p", "p_equivalence", "p_not_worse")
        adjusted = testing.adjust_family([own[name] for name in names], own["verdict"] == "both solve", 0.05)
        for name, expected in zip(names, adjusted, strict=True):
            assert list(own[f"{name}_holm"]) == pytest.approx(list(expected))


def test_success_counts_a_diverged_run_as_no_success(frame: pd.DataFrame, study: Study) -> None:
    table = comparisons.success_rates(frame, study)
    found = row(table, task="copy", variant="kv_pos")
    assert (found["successes"], found["n"]) == (11, 12)
    assert row(table, task="reverse", variant="kv")["successes"] == 0
    assert set(table["task"]) == {"reverse", "copy", "sort"}, "success is a matter of the synthetic tasks"


def test_aggregates_leave_losses_out_and_compare_the_baseline_with_itself(frame: pd.DataFrame, study: Study) -> None:
    table = comparisons.aggregates(frame, study).set_index("variant")
    assert list(table["tasks"]) == [4, 4, 4]
    assert table.loc["qkv", "improvement"] == 0.5
    assert table.loc["kv", "improvement_high"] < 0.5 < table.loc["kv_pos", "improvement"]


def test_a_baseline_that_did_not_run_leaves_nothing_to_compare(frame: pd.DataFrame, study: Study) -> None:
    alone = frame[frame["variant"] != "qkv"]
    table = paired_differences(alone, study)
    assert set(table["n"]) == {0} and set(table["verdict"]) == {"undecided"}
