"""The quantities that metrics measure (accuracy, loss, BLEU …): how each is printed, and which values it can have."""

from dataclasses import dataclass
from math import inf

SOLVED = 0.99
"""A synthetic task counts as solved from this accuracy on (the papers' threshold)."""


@dataclass(frozen=True)
class Quantity:
    """What a metric such as `test/accuracy` measures.

    title: its name in print.
    scale: factor from stored to printed values; fractions are printed in percent.
    unit: of a printed value ("" for a bare number).
    decimals: of a printed value.
    step: unit of a printed difference.
    step_decimals: of a printed difference.
    bounds: the least and the largest stored value.
    falls: whether less is better.
    """

    name: str
    title: str
    scale: float = 1.0
    unit: str = ""
    decimals: int = 3
    step: str = ""
    step_decimals: int = 3
    bounds: tuple[float, float] = (-inf, inf)
    falls: bool = False


_KNOWN = {
    known.name: known
    for known in (
        Quantity("accuracy", "accuracy", 100.0, "%", 1, "points", 2, bounds=(0.0, 1.0)),
        Quantity("success", "success", 100.0, "%", 1, "points", 2, bounds=(0.0, 1.0)),
        Quantity("loss", "loss", unit="nats", step="nats", falls=True),
        Quantity("perplexity", "perplexity", falls=True),
        Quantity("bleu", "BLEU", decimals=1, step="BLEU", step_decimals=2, bounds=(0.0, 100.0)),
    )
}


def quantity(metric: str) -> Quantity:
    """The quantity of a metric key: accuracy of `test/accuracy`. An unknown one is a bare number; more is better."""
    name = metric.rsplit("/", 1)[-1]
    title = name.replace("_", " ")
    return _KNOWN.get(name) or Quantity(name, title, step=title, falls=name.endswith("loss"))


def short_key(key: str) -> str:
    """The printed name of a dotted key: `dim` for `model.dim`."""
    return key.rpartition(".")[2].replace("_", " ")


def axis_label(metric: str) -> str:
    """Axis label of a metric key such as `test/accuracy`, with its unit."""
    what = quantity(metric)
    split, _, _ = metric.rpartition("/")
    words = f"{split.replace('/', ' ')} {what.title}".strip()
    return words[0].upper() + words[1:] + (f" ({what.unit})" if what.unit else "")
