"""The tables of the gap over training and of the error of the test set."""

import numpy as np
import pandas as pd

from kvformer.analysis.results import SHARES, TOO_FEW, Results
from kvformer.reporting.cells import number, signed, whole
from kvformer.reporting.render import Layout, alike, change, decimals, lay_out

GAPS: Layout = {
    **alike(str, "task", "variant", "metric"),
    "steps": ("share", lambda value: f"{100 * value:.0f} %"),
    "pairs": ("n", whole),
    **alike(signed, "difference", "low", "high"),
    **alike(change(2), "margins"),
}
PACE: Layout = {
    **alike(str, "task", "variant"),
    "course": ("verdict", str),
    **{f"at {100 * share:.0f} %": (f"at{share}", change(1)) for share in SHARES},
    "end": ("end", str),
    **alike(str, "steps"),
    "steps, 95 %": ("interval", str),
    **alike(str, "reached"),
    "learning rate falls": ("decays", lambda falls: "yes" if falls else "no"),
}
SAMPLING: Layout = {
    **alike(str, "task", "variant", "test_sets"),
    "pairs": ("n", whole),
    "test examples": ("examples", whole),
    **alike(signed, "difference", "low", "high"),
    "seeds %": ("seed_share", lambda value: number(100 * value, 0)),
    "test set %": ("test_share", lambda value: number(100 * value, 0)),
    **alike(decimals(2), "wider"),
    **alike(number, "floor"),
}


def training_tables(results: Results) -> dict[str, tuple[pd.DataFrame, tuple[str, ...]]]:
    """By name, as `tables.study_tables` wants them: the table with all columns, and the printed ones (all if none)."""
    return {
        "pace": (lay_out(_pace(results), PACE), ()),
        "gaps": (lay_out(results.gaps, GAPS), ()),
        "sampling": (lay_out(results.sampling, SAMPLING), ()),
    }


def _pace(results: Results) -> pd.DataFrame:
    """The factors in words, next to the gaps in margins."""
    keys = ["task", "variant"]
    gaps = results.gaps
    wide = gaps.pivot(index=keys, columns="share", values="margins").reindex(columns=SHARES).add_prefix("at")
    last = gaps[gaps["share"] == 1].set_index(keys)
    ends = [
        f"[{signed(low, 1)}, {signed(high, 1)}]"
        for low, high in zip(last["margins_low"], last["margins_high"], strict=True)
    ]
    wide = wide.join(pd.Series(ends, index=last.index, dtype=object, name="end"))
    known = results.pace[results.pace["verdict"] != TOO_FEW]
    rows = known.join(wide, on=keys)
    return rows.assign(
        steps=[factor(row["factor"], row["at_least"]) for row in rows.to_dict("records")],
        interval=[
            "" if np.isnan(low) else f"[{number(low, 2)}, {'no limit' if np.isinf(high) else number(high, 2)}]"
            for low, high in zip(rows["low"], rows["high"], strict=True)
        ],
        reached=[f"{reached} of {n}" for reached, n in zip(rows["reached"], rows["n"], strict=True)],
    )


def factor(value: float, at_least: float) -> str:
    """`1.21`, or `more than 1.39` where the variant does not get there within the run."""
    return f"more than {number(at_least, 2)}" if np.isinf(value) else number(value, 2)
