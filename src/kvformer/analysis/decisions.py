"""The rule that turns differences into words. Nothing else in the package gives a verdict."""

import numpy as np
import pandas as pd

from kvformer.analysis.statistics import Estimate, holm

ALPHA = 0.05


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Add `p_t_holm` and `p_wilcoxon_holm`, adjusted over the table, and the `verdict` of every row.

    table: rows with metric, goal, margin (NaN where none is fixed) and the columns of `describe_differences`.
    """
    if table.empty:
        return table
    table = table.assign(p_t_holm=holm(table["p_t"]), p_wilcoxon_holm=holm(table["p_wilcoxon"]))
    verdicts = []
    for row in table.to_dict("records"):
        found = Estimate(*(row[name] for name in ("difference", "low", "high", "n", "error", "freedom")))
        margin = None if pd.isna(row["margin"]) else row["margin"]
        verdicts.append(verdict(found, row["p_t_holm"], margin, row["goal"]))
    return table.assign(verdict=verdicts)


def verdict(difference: Estimate, adjusted_p: float, margin: float | None, goal: str) -> str:
    """`equivalent`, `better`, `worse` or `undecided`, for a difference (variant minus baseline) of a metric.

    equivalent: the 95 % interval lies inside ± margin. better or worse: it does not, and the paired t test,
    Holm-adjusted over the table, has p < 0.05. Anything else, or with less than 2 degrees of freedom, is undecided.
    """
    if np.isnan(difference.low) or difference.freedom < 2:
        return "undecided"
    if margin is not None and -margin < difference.low and difference.high < margin:
        return "equivalent"
    if adjusted_p < ALPHA:
        return "better" if (difference.mean > 0) == (goal == "max") else "worse"
    return "undecided"
