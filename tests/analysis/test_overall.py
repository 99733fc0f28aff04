"""One verdict per variant: the average against numbers worked by hand, and that of the reference run."""

from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pairs import comparison, spread
from scipy import stats

from kvformer.analysis.comparisons import Comparison, compared
from kvformer.analysis.decisions import Looks, judge, looks_of
from kvformer.analysis.frames import load_runs, scores
from kvformer.analysis.overall import overall
from kvformer.analysis.results import OVERALL
from kvformer.analysis.study import read_study

ROOT = Path(__file__).parents[2]
TASKS = ("sort", "copy", "shift", "swap")


def averaged(*comparisons: Comparison, looks: Looks | None = None) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    looks = looks or Looks()
    table, seeds = overall(comparisons, judge(comparisons, looks), looks)
    return table.to_dict("records"), seeds


def family(means: list[float], n: int = 5, size: float = 0.001, variant: str = "kv") -> list[Comparison]:
    return [comparison(spread(mean, n, size), task, variant) for task, mean in zip(TASKS, means, strict=False)]


def test_against_numbers_worked_by_hand() -> None:
    """Margins 0.01, 0.02, 0.05 (a loss) and 1.0; five seeds. Of the last task both sides solve every run."""
    pairs = [
        comparison([-0.03, -0.02, -0.04, -0.03, -0.03], "sort"),
        comparison([0.02, 0.00, 0.02, 0.04, 0.02], "copy", margin=0.02),
        comparison([0.10, 0.15, 0.05, 0.10, 0.10], "loss", goal="min", margin=0.05),
        comparison([0.0] * 5, "easy", solvable=True, baseline=1.0),
    ]
    ((row,), seeds) = averaged(*pairs)
    # In margins: sort −3 −2 −4 −3 −3, copy 1 0 1 2 1, loss −2 −3 −1 −2 −2, easy 0; their mean by seed:
    assert list(seeds["value"]) == pytest.approx([-1.0, -1.25, -1.0, -0.75, -1.0])
    assert list(seeds["seed"]) == [0, 1, 2, 3, 4] and set(seeds["variant"]) == {"kv"}
    half = stats.t.isf(0.025, 4) * np.sqrt(0.125 / 4 / 5)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((-1.0, -1.0 - half, -1.0 + half))
    assert row["p"] == row["p_holm"] == pytest.approx(2 * stats.t.sf(1 / np.sqrt(0.125 / 20), 4))
    assert (row["n"], row["tasks"], row["n_tasks_counted"]) == (5, 4, 4)
    assert (row["worse"], row["equal"], row["better"]) == (2, 1, 1)
    assert row["mean_unsolved"] == pytest.approx(-4 / 3)
    assert row["high_unsolved"] == pytest.approx(-4 / 3 + half * 4 / 3)
    means = [-3.0, 1.0, -2.0, 0.0]
    half = stats.t.isf(0.025, 3) * np.std(means, ddof=1) / 2
    assert (row["task_low"], row["task_high"]) == pytest.approx((-1 - half, -1 + half))
    assert (row["leave_out_low"], row["leave_out_high"]) == pytest.approx((-5 / 3, -1 / 3))
    # One-sided p of being worse: sort 0.0003, loss 0.0015, easy 1, copy about 1. Two of them are rejected.
    assert row["worse_at_least"] == 2


@pytest.mark.parametrize(
    ("means", "size", "word"),
    [
        ([-0.02] * 4, 0.001, "worse"),
        ([0.02] * 4, 0.001, "better"),
        ([0.0] * 4, 0.001, "equivalent"),
        ([-0.03, 0.0, 0.0, 0.0], 0.001, "equivalent"),
        ([-0.05, 0.05, 0.0, 0.0], 0.001, "mixed"),
        ([0.012] * 4, 0.018, "not worse"),
        ([0.0] * 4, 0.1, "undecided"),
    ],
)
def test_the_word_on_a_variant(means: list[float], size: float, word: str) -> None:
    ((row,), _) = averaged(*family(means, size=size))
    assert row["verdict"] == word
    ((loss,), _) = averaged(
        *(comparison([-d for d in found.pairs], found.names["task"], goal="min") for found in family(means, size=size))
    )
    assert loss["verdict"] == word


def test_holm_is_over_the_variants() -> None:
    first, second = family([-0.01] * 4, size=0.01), family([-0.02] * 4, size=0.03, variant="k")
    rows, seeds = averaged(*first, *second)
    assert [row["variant"] for row in rows] == ["kv", "k"] and len(seeds) == 10
    p = sorted(row["p"] for row in rows)
    assert sorted(row["p_holm"] for row in rows) == pytest.approx([2 * p[0], max(2 * p[0], p[1])])


def test_fewer_than_four_tasks_have_no_average() -> None:
    assert averaged(*family([-0.02] * 3))[0] == []
    without = [*family([-0.02] * 3), comparison(spread(-0.02, 5), "swap", margin=None)]
    assert averaged(*without)[0] == [], "a task without a margin cannot be in margins"
    ((row,), _) = averaged(*without, comparison(spread(-0.02, 5), "recall"))
    assert (row["tasks"], row["n_tasks_counted"]) == (5, 4)


def test_the_average_uses_the_seeds_that_have_every_task() -> None:
    lost = comparison(spread(-0.02, 5), "swap", lost=[("kv", 1, "failed")])
    ((row,), seeds) = averaged(*family([-0.02] * 3), lost)
    assert row["n"] == 4 and list(seeds["seed"]) == [0, 2, 3, 4]
    ((row,), _) = averaged(*family([-0.02] * 4), comparison([], "recall", planned=5))
    assert (row["n"], row["tasks"], row["n_tasks_counted"], row["verdict"]) == (5, 5, 4, "worse")
    none = comparison([0.1] * 5, "swap", lost=[("kv", seed, "failed") for seed in range(1, 5)])
    other = comparison([0.1] * 5, "copy", lost=[("kv", 0, "failed")])
    ((row,), seeds) = averaged(*family([-0.02]), comparison(spread(0, 5), "shift"), none, other)
    assert (row["n"], row["verdict"], len(seeds)) == (0, "undecided", 0) and isnan(row["mean"])


def test_two_seeds_are_points_and_one_seed_gets_no_word() -> None:
    ((row,), _) = averaged(*family([-0.02] * 4, n=2))
    assert (row["n"], row["verdict"]) == (2, "undecided") and isnan(row["low"]) and isnan(row["p"])
    ((row,), _) = averaged(*family([-0.02] * 4, n=1))
    assert (row["n"], row["verdict"]) == (1, "") and row["mean"] == pytest.approx(-2.1)


def test_where_both_sides_solve_everything_there_is_nothing_to_average() -> None:
    solved = [comparison([0.0] * 8, task, solvable=True, baseline=1.0) for task in TASKS]
    ((row,), _) = averaged(*solved)
    assert row["verdict"] == "both solve" and isnan(row["mean_unsolved"])


def test_later_looks_do_not_change_the_average() -> None:
    looks = Looks([5, 8], [0.4, 0.6])
    values = [spread(-0.02, 5), *([spread(0.0, 5, 0.1) + [0.3] * 3] * 3)]
    found = [comparison(pairs, task, planned=8) for pairs, task in zip(values, TASKS, strict=True)]
    ((row,), seeds) = averaged(*found, looks=looks)
    assert row["n"] == 5 and list(seeds["seed"]) == [0, 1, 2, 3, 4]
    assert row["high"] - row["mean"] == pytest.approx(
        stats.t.isf(0.025, 4) * seeds["value"].std(ddof=1) / np.sqrt(5)
    ), "at the full level: nothing is spent on other looks"


def test_the_averages_of_the_reference_run() -> None:
    """From the rows of its runs, without kvformer's statistics: the seeds of the first look, each with the mean over
    tasks of the difference in margins, which is a mean over settings."""
    folder = ROOT / "results" / "reference"
    study = read_study(folder)
    first, _ = study.manifest.looks
    found = compared(scores(load_runs(folder)), study)
    table, _ = overall(found, judge(found, looks_of(study)), looks_of(study))
    assert set(OVERALL.table(table).columns) == set(table.columns) - {"planned"}
    rows = pd.read_csv(folder / "runs.csv.xz").query(f"primary and seed < {first}")
    margins = rows["metric"].str.partition("/")[2].map({"accuracy": 0.01, "loss": -0.02, "bleu": 1})
    wide = rows.assign(value=rows["value"] / margins).pivot_table("value", ["task", "setting", "seed"], "variant")
    averages = wide.sub(wide["qkv"], axis=0).groupby(["task", "seed"]).mean().groupby("seed").mean()
    for row in table.to_dict("records"):
        own = averages[row["variant"]]
        half = stats.t.isf(0.025, first - 1) * own.std(ddof=1) / np.sqrt(first)
        expected = (own.mean(), own.mean() - half, own.mean() + half)
        assert (row["mean"], row["low"], row["high"]) == pytest.approx(expected, rel=1e-9)
