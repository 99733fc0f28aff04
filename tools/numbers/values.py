"""Numbers and how they are printed: from full precision, rounded once, with a true minus sign."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, isnan, log10
from typing import NamedTuple

MINUS = "−"


def fixed(value: float, decimals: int) -> str:
    """`0.955`, `−1.3`; never a negative zero."""
    text = f"{abs(value):.{decimals}f}"
    return text if value >= 0 or not float(text) else MINUS + text


def signed(value: float, decimals: int) -> str:
    """`+0.6`, `−4.0`; a value that rounds to zero has no sign."""
    text = f"{abs(value):.{decimals}f}"
    return text if not float(text) else ("+" if value > 0 else MINUS) + text


def three_digits(value: float) -> str:
    """`65.7`, `1.52`, `1623`: as many decimals as three significant digits leave."""
    return fixed(value, max(0, 2 - floor(log10(abs(value)))))


def thousands(value: float) -> str:
    """`1,130,506`."""
    return f"{value:,.0f}"


def probability(value: float) -> str:
    """`0.057`, `< 0.001`."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent_change(ratio: float) -> str:
    """What a ratio saves: `−25 %`, or `same` below half a per cent."""
    return "same" if abs(ratio - 1) < 0.005 else f"{signed(100 * (ratio - 1), 0)} %"


def span(values: Sequence[float], decimals: int, sign: bool = False) -> str:
    """`0.92 to 0.95`, or one number where both ends are printed alike."""
    show = signed if sign else fixed
    low, high = show(min(values), decimals), show(max(values), decimals)
    return low if low == high else f"{low} to {high}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Unit(NamedTuple):
    """How a metric is printed: scale, name and decimals of a difference, digits of a mean as it is stored."""

    scale: float
    name: str
    decimals: int
    digits: int


UNITS = {"accuracy": Unit(100, "points", 1, 3), "loss": Unit(1, "nats", 3, 3), "bleu": Unit(1, "BLEU", 1, 1)}


@dataclass(frozen=True)
class Mean:
    """A mean over settings and seeds with its 95 % interval (NaN with one seed), and the spread between seeds."""

    unit: Unit
    mean: float
    low: float
    high: float
    error: float
    seed_sd: float

    @property
    def text(self) -> str:
        """`0.955`."""
        return fixed(self.mean, self.unit.digits)

    @property
    def text_with_interval(self) -> str:
        """`0.725 [0.705, 0.746]`."""
        low, high = (fixed(value, self.unit.digits) for value in (self.low, self.high))
        return self.text if isnan(self.low) else f"{self.text} [{low}, {high}]"


@dataclass(frozen=True)
class Difference:
    """A paired mean difference with its 95 % interval. favourable: pairs in which the first side does better.

    p: Holm-adjusted; verdict: a word of the rule. Both only where the comparison is one of a table.
    """

    unit: Unit
    mean: float
    low: float
    high: float
    pairs: int
    favourable: int
    p: float = float("nan")
    verdict: str = ""

    @property
    def better_in(self) -> str:
        """`5 of 5`."""
        return f"{self.favourable} of {self.pairs}"

    def text(self, unit: bool = True, interval: bool = True, decimals: int | None = None) -> str:
        """`−4.0 points [−4.3, −3.7]`; a plain 0 where every pair is equal."""
        name = f" {self.unit.name}" if unit else ""
        if self.mean == self.low == self.high == 0:
            return f"0{name}"
        places = self.unit.decimals if decimals is None else decimals
        mean, low, high = (signed(self.unit.scale * value, places) for value in (self.mean, self.low, self.high))
        return f"{mean}{name}" + (f" [{low}, {high}]" if interval and not isnan(self.low) else "")
