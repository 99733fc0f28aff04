"""The scaling law of a study in words and tables."""

from typing import Any

import numpy as np
import pandas as pd

from kvformer.analysis.results import Results
from kvformer.reporting.cells import number, signed, whole
from kvformer.reporting.render import Format, Layout, alike, change, decimals, lay_out, yes
from kvformer.reporting.wording import SPACE, interval, listing, name
from kvformer.reporting.wording import signed as printed

TRENDS = {
    "grows": "the {gap} grows with size",
    "shrinks": "the {gap} shrinks with size",
    "neither": "the {gap} is not shown to grow or to shrink with size",
}


def _large(value: float) -> str:
    """`6.4e+14`: three significant digits."""
    return "" if pd.isna(value) else f"{value:.3g}"


def _ends(header: str, column: str, text: Format) -> dict[str, tuple[str, Format]]:
    """A value and its interval."""
    ends = {f"{header}: low": f"{column}_low", f"{header}: high": f"{column}_high"}
    return {header: (column, text)} | {title: (end, text) for title, end in ends.items()}


POINTS: Layout = {
    **alike(str, "task", "setting", "variant"),
    "n": ("n", whole),
    "of": ("expected", whole),
    **alike(whole, "parameters", "total", "tokens"),
    "compute": ("compute", _large),
    **_ends("loss", "loss", number),
    "fitted": ("fitted", number),
    "predicted": ("predicted", number),
    "held out": ("held_out", yes),
    **_ends("gap", "gap", signed),
}
POINTS_PRINTED = (
    *("setting", "variant", "n", "of", "parameters", "tokens", "compute", "loss", "fitted", "predicted", "gap"),
    *("gap: low", "gap: high"),
)
VARIANTS: Layout = {
    **alike(str, "variant"),
    "seeds": ("n", whole),
    **_ends("worth", "worth", decimals(3)),
    **_ends("more compute", "compute", change(1)),
    **_ends("mean gap", "gap", signed),
    **_ends("slope", "slope", signed),
    "gap": ("trend", str),
    **_ends("error", "error", change(2)),
}
PRINTED = {
    "worth of a parameter": "worth",
    "more compute %": "more compute",
    "mean gap, nats": "mean gap",
    "gap per tenfold size": "slope",
    "error of prediction %": "error",
}
"""Columns in print that hold a value with its interval, and the columns of the value."""
LAW: Layout = {"constant": ("quantity", str), **alike(_large, "value", "low", "high")}

Tables = dict[str, tuple[pd.DataFrame, tuple[str, ...]]]


def scaling_tables(results: Results) -> Tables:
    """By name, as `tables.study_tables` wants them: the table with all columns, and the printed ones (all if none)."""
    return {
        "scaling_variants": (_variants(results), ("variant", "seeds", *PRINTED, "gap")),
        "scaling_law": (lay_out(results.scaling_law, LAW), ()),
        "scaling": (lay_out(results.scaling, POINTS), POINTS_PRINTED),
    }


def _variants(results: Results) -> pd.DataFrame:
    """The numbers, and the columns in which they are printed with their intervals."""
    table = lay_out(results.scaling_variants, VARIANTS)
    for header, column in PRINTED.items():
        ends = zip(table[column], table[f"{column}: low"], table[f"{column}: high"], strict=True)
        table[header] = [f"{value} [{low}, {high}]" if low else value for value, low, high in ends]
    return table


def scaling_sentences(results: Results) -> list[str]:
    """One sentence for each variant that is compared: what it needs to reach the baseline's loss, and where its gap
    goes. Markdown."""
    rows = results.scaling_variants[results.scaling_variants["variant"] != results.study.baseline]
    return [scaling_sentence(row, results.study.baseline) for row in rows.to_dict("records")]


def scaling_sentence(row: Any, baseline: str) -> str:
    """To reach the loss of `qkv`, `kv` needs 12 % more compute [+8, +16]; the gap grows with size."""
    trend = TRENDS.get(row["trend"], "").format(gap="lead" if row["gap"] < 0 else "gap")
    if trend and not np.isnan(row["slope"]):
        trend += f" ({slope(row)} per tenfold size)"
    if np.isnan(row["compute"]):
        return f"{name(row['variant'])}: no law could be fitted{f'; {trend}' if trend else ''}."
    needs = f"{more_compute(row)}{f'; {trend}' if trend else ''}"
    return f"To reach the loss of {name(baseline)}, {name(row['variant'])} needs {needs}."


def more_compute(row: Any) -> str:
    """`12 % more compute [+8, +16]`; `9 % less compute [+5, +13]`, with an interval in the sense of its word; and
    `5 % less compute [39 % less to 48 % more]` where it contains none."""
    change, low, high = row["compute"], row["compute_low"], row["compute_high"]
    if low < 0 < high:
        ends = f"[{-low:.0f}{SPACE}% less to {high:.0f}{SPACE}% more]"
    elif change < 0:
        ends = interval(-high, -low, 0)
    else:
        ends = interval(low, high, 0)
    return f"{abs(change):.0f}{SPACE}% {'less' if change < 0 else 'more'} compute {ends}".strip()


def slope(row: Any) -> str:
    """`+0.012 nats [+0.004, +0.020]`: the change of the gap per tenfold size."""
    ends = interval(row["slope_low"], row["slope_high"], 3)
    return f"{printed(row['slope'], 3)}{SPACE}nats {ends}".strip()


def held_out_sentence(results: Results) -> str:
    """How well the law of the smaller sizes predicts the largest; empty where there is no such law."""
    rows = results.scaling_variants.dropna(subset=["error"])
    if rows.empty:
        return ""
    errors = [f"{printed(row['error'], 1)}{SPACE}% for {name(row['variant'])}" for row in rows.to_dict("records")]
    return f"A law fitted without the largest size predicts its losses with an error of {listing(errors)}."
