"""Words for the committed scaling study."""

from typing import Any

from kvformer.reporting import scaling
from tools.numbers.results import study
from tools.numbers.values import fixed, signed, table

STUDY = "scaling"


def _row(variant: str) -> dict[Any, Any]:
    rows = study(STUDY).report.scaling_variants
    found = rows[rows["variant"] == variant].to_dict("records")
    if not found:
        raise ValueError(f"the study {STUDY} has no law for {variant}")
    return found[0]


def scaling_sentence(variant: str) -> str:
    """`To reach the loss of qkv, kv needs 12 % more compute [+8, +16]; the gap grows with size.`"""
    return scaling.scaling_sentence(_row(variant), study(STUDY).study.baseline)


def more_compute(variant: str) -> str:
    """`12 % more compute [+8, +16]`: what a variant needs to reach the baseline's loss."""
    return scaling.more_compute(_row(variant))


def scaling_table() -> str:
    """Findings: each variant that is compared. Error: of the largest size's loss as predicted by a law
    fitted without it, in per cent."""
    rows = []
    for variant in study(STUDY).study.variants[1:]:
        row = _row(variant)
        worth = f"{fixed(row['worth'], 2)} [{fixed(row['worth_low'], 2)}, {fixed(row['worth_high'], 2)}]"
        error = f"{signed(row['error'], 1)} %"
        rows.append([f"`{variant}`", worth, scaling.more_compute(row), scaling.slope(row), row["trend"], error])
    header = ["worth of a parameter", "to reach the loss of `qkv`", "gap per tenfold size", "the gap"]
    return table(["", *header, "error of prediction"], rows)
