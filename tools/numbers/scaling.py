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


def gap_trend(variant: str) -> str:
    """`grows`, `shrinks` or `neither`."""
    return str(_row(variant)["trend"])


def gap_slope(variant: str) -> str:
    """`+0.012 nats [+0.004, +0.020]`: the change of the gap per tenfold size."""
    return scaling.slope(_row(variant))


def parameter_worth(variant: str) -> str:
    """`0.89 [0.86, 0.92]`: what a parameter of a variant is worth in parameters of the baseline."""
    row = _row(variant)
    return f"{fixed(row['worth'], 2)} [{fixed(row['worth_low'], 2)}, {fixed(row['worth_high'], 2)}]"


def prediction_error(variant: str) -> str:
    """`+0.4 %`: predicted over measured loss of the largest size minus 1, by a law fitted without it."""
    return f"{signed(_row(variant)['error'], 1)} %"


def scaling_table() -> str:
    """Findings: each variant of the scaling study."""
    found = study(STUDY)
    rows = [
        [
            f"`{name}`",
            parameter_worth(name),
            more_compute(name),
            gap_slope(name),
            gap_trend(name),
            prediction_error(name),
        ]
        for name in found.study.variants[1:]
    ]
    header = [
        "worth of a parameter",
        "to reach the loss of `qkv`",
        "gap per tenfold size",
        "the gap",
        "error of prediction",
    ]
    return table(["", *header], rows)
