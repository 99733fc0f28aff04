"""Words for what simulations found (docs/simulations, written by `python -m tools.simulations`)."""

from functools import cache

import pandas as pd

from tools.numbers.results import ROOT
from tools.numbers.values import fixed, table, thousands

NOISES = {"normal": "normal", "t3": "heavy tails (t₃)", "bimodal": "two values", "exponential": "skewed (exponential)"}
POWER = {
    "version 1: 5 seeds, t test, all in one family": "version 1: 5 seeds, t test, Holm over all comparisons",
    "12 seeds": "12 seeds, exact test",
    "20 seeds": "20 seeds, exact test",
    "looks 12, 20": "**looks at 12 and 20 seeds, exact test**",
    "looks 12, 20, Holm for each kind": "the same, Holm for each kind of statement",
    "looks 8, 12, 20": "looks at 8, 12 and 20 seeds, exact test",
    "looks 5, 8, 12, 20": "looks at 5, 8, 12 and 20 seeds, exact test",
    "looks 5, 8, 12, 20, t test": "looks at 5, 8, 12 and 20 seeds, t test",
    "looks 12, 20, 30": "looks at 12, 20 and 30 seeds, exact test",
    "5, 8, 12, 20 seeds until decided, t test": "5, 8, 12, 20 seeds until decided (not valid)",
}
ERRORS = ("12 seeds", "looks 12, 20", "looks 12, 20, Holm for each kind", "5 seeds, t test")
NAIVE = "5, 8, 12, 20 seeds until decided, t test"


@cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "docs" / "simulations" / f"{name}.csv")


def _percent(share: float, decimals: int = 1) -> str:
    return f"{fixed(100 * share, decimals)} %"


def _row(name: str, **where: str | float) -> "pd.Series[float]":
    found = _read(name)
    for column, value in where.items():
        found = found[found[column] == value]
    if len(found) != 1:
        raise ValueError(f"{name}.csv has {len(found)} rows with {where}")
    return found.iloc[0]


def false_words(design: str, noise: str = "normal", truth: str = "", kind: str = "any") -> str:
    """`4.9 %`: variants with a false word, at one of the truths or at the worst of them."""
    found = _read("errors")
    found = found[(found["design"] == design) & (found["noise"] == noise) & (found["truth"].eq(truth) | (truth == ""))]
    if found.empty:
        raise ValueError(f"errors.csv has no row of '{design}' with noise {noise} and truth '{truth}'")
    return _percent(found[kind].max())


def undecided(design: str) -> str:
    """`8.4`: undecided comparisons of the reference run."""
    return fixed(_row("power", design=design)["undecided"], 1)


def tested() -> str:
    """Comparisons of the first reference run that are not solved by both sides."""
    return str(int(_read("power")["tested"].iloc[0]))


def simulated_studies(name: str) -> str:
    """Simulated studies per row of a table."""
    return thousands(_read(name)["studies"].iloc[0])


def coverage(design: str, noise: str, column: str = "all_looks") -> str:
    """`95.2 %`: intervals that hold the truth at all looks, or drawn ones that do."""
    return _percent(_row("intervals", design=design, noise=noise)[column])


def overall_error(noise: str, seeds: int) -> str:
    """`5.1 %`: studies with a false overall verdict."""
    return _percent(_row("overall", noise=noise, seeds=seeds)["error"])


def count_error(correlation: str) -> str:
    """`1.8 %`: variants for which "worse on at least k tasks" says too many."""
    return _percent(_row("counts", correlation=float(correlation))["error"])


def error_table() -> str:
    """Variants with a false word, by design and noise, at the worst truth."""
    names = {**{design: POWER.get(design, design) for design in ERRORS}, NAIVE: POWER[NAIVE]}
    rows = [[words, *(false_words(design, noise) for noise in NOISES)] for design, words in names.items()]
    return table(["", *NOISES.values()], rows)


def power_table() -> str:
    """Undecided comparisons, seeds and hours by design."""
    rows = []
    for design, words in POWER.items():
        row = _row("power", design=design)
        rows.append([words, *(fixed(row[name], 1) for name in ("undecided", "seeds", "hours"))])
    return table(["design", f"undecided of {tested()}", "seeds per comparison", "hours of one core"], rows)
