"""Published numbers next to ours in print: those of the same setting, and those of others."""

import pandas as pd

from kvformer.reporting.cells import number, signed, whole
from kvformer.reporting.render import Layout, alike, lay_out

START: Layout = {
    **alike(str, "task", "variant"),
    "published by": ("study", str),
    "setting there": ("setting", str),
    "metric": ("compare_with", str),
    "published": ("mean", number),
    "sd there": ("std", number),
    "n there": ("n", whole),
    **alike(number, "ours", "low", "high"),
    "n": ("n_ours", whole),
    **alike(signed, "difference"),
}
END: Layout = {"setting here": ("settings", str), "metric there": ("metric", str), **alike(str, "origin", "status")}
PRINTED = ("task", "variant", "published by", "metric", "published", "ours", "low", "high", "n")


def published_tables(rows: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, tuple[str, ...]]]:
    """By name of a table: its cells and its printed columns. Only the same setting has a deviation."""
    same = rows["differs"] == ""
    deviation: Layout = {"deviation": ("deviation", lambda value: signed(value, 1))}
    differs: Layout = {"differs in": ("differs", str)}
    return {
        "published": (
            lay_out(rows[same], {**START, **deviation, **END}),
            (*PRINTED, "setting there", "difference", "deviation"),
        ),
        "published_context": (lay_out(rows[~same], {**START, **differs, **END}), (*PRINTED, "differs in")),
    }
