"""One verdict per variant: its mean over the tasks, in margins."""

from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from kvformer.analysis import testing
from kvformer.analysis.comparisons import Comparison
from kvformer.analysis.decisions import TESTS, Looks, difference, word
from kvformer.analysis.statistics import ROUNDING, holm
from kvformer.analysis.verdicts import ALPHA, BOTH_SOLVE, FEWEST, MIXED

FEWEST_TASKS = 4
"""An average over fewer tasks says little about another task."""


def overall(comparisons: Sequence[Comparison], paired: pd.DataFrame, looks: Looks) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `overall` and `overall_seeds`: D_s, the mean over tasks of difference / margin, by seed.

    A task counts with a margin and at least one pair, a seed with a pair on every task that counts. With looks, the
    seeds are those of the first one: every comparison has them, and no later look changes the average. Student's t over
    seeds, Holm over variants.

    comparisons: of all tasks. paired: their rows, of `decisions.judge`.
    """
    rows: list[dict[str, Any]] = []
    seeds: list[dict[str, Any]] = []
    for variant in dict.fromkeys(comparison.names["variant"] for comparison in comparisons):
        units = in_margins([found for found in comparisons if found.names["variant"] == variant], looks.seeds[0])
        if units.shape[1] >= FEWEST_TASKS:
            own = paired[paired["variant"] == variant].set_index("task")
            planned = min(found.planned for found in comparisons if found.names["task"] in units)
            rows.append({"variant": variant, **_average(units, own), "planned": planned})
            seeds += [{"variant": variant, "seed": seed, "value": value} for seed, value in units.mean(axis=1).items()]
    for name in TESTS:
        p = np.array([row[name] for row in rows])
        adjusted = np.where(np.isnan(p), nan, holm(np.nan_to_num(p, nan=1.0)))  # one without a p keeps its place
        for row, value in zip(rows, adjusted, strict=True):
            row[f"{name}_holm"] = float(value)
    for row in rows:
        row["verdict"] = _verdict(row, paired[paired["variant"] == row["variant"]]["verdict"])
    return pd.DataFrame(rows), pd.DataFrame(seeds)


def in_margins(comparisons: Sequence[Comparison], seeds: float) -> pd.DataFrame:
    """Differences in margins, positive is better: a row per seed that has all tasks, a column per task that counts."""
    counted = {found.names["task"]: found.signed(seeds) / found.margin for found in comparisons if found.margin}
    return pd.DataFrame({task: pairs for task, pairs in counted.items() if len(pairs)}).dropna()


def _average(units: pd.DataFrame, paired: pd.DataFrame) -> dict[str, Any]:
    by_seed, by_task = units.mean(axis=1), units.mean()
    total, m = by_task.sum(), len(by_task)
    unsolved = units.loc[:, (paired["verdict"].reindex(units.columns) != BOTH_SOLVE).to_numpy()].mean(axis=1)
    left_out = (total - by_task) / (m - 1)
    tests: dict[str, float] = dict.fromkeys(TESTS, nan)
    if len(by_seed) >= FEWEST:
        values = by_seed.to_numpy()
        tests = {"p": testing.t_p(values), "p_equivalence": testing.equivalence_p(values, 1.0)}
        tests["p_not_worse"] = testing.not_worse_p(values, 1.0)
    return {
        "n": len(by_seed),
        "tasks": len(paired),
        "n_tasks_counted": m,
        "worse": int((by_task < -ROUNDING).sum()),
        "equal": int((by_task.abs() <= ROUNDING).sum()),
        "better": int((by_task > ROUNDING).sum()),
        "worse_at_least": testing.simes_count(paired["p_worse"], ALPHA),
        "leave_out_low": left_out.min(),
        "leave_out_high": left_out.max(),
        **dict(zip(("mean", "low", "high"), difference(by_seed)[:3], strict=True)),
        **dict(zip(("mean_unsolved", "low_unsolved", "high_unsolved"), difference(unsolved.dropna())[:3], strict=True)),
        **dict(zip(("task_low", "task_high"), difference(by_task)[1:3], strict=True)),
        **{name: float(p) for name, p in tests.items()},
    }


def _verdict(row: dict[str, Any], verdicts: "pd.Series[str]") -> str:
    """The word on a variant's average: `mixed` where it is better on one task and worse on another."""
    if row["planned"] < 2:
        return ""
    if {"better", "worse"} <= set(verdicts):
        return MIXED
    if set(verdicts) == {BOTH_SOLVE}:
        return BOTH_SOLVE
    adjusted = {name: row[f"{name}_holm"] for name in TESTS}
    return word(adjusted, 1 if row["mean"] > 0 else -1, row["low"], row["high"])
