"""The small plots of the page: positions in per cent of their width, so that one file serves every width."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import NamedTuple

from kvformer.reporting.wording import signed

LEAST_STEP = 1e-5
"""Ticks are not closer than this, whatever the axis."""


class Tick(NamedTuple):
    """A number below or above an axis; at its ends it is aligned to stay inside."""

    at: float
    text: str

    @property
    def anchor(self) -> str:
        """How SVG aligns it."""
        return "start" if self.at <= 5 else "end" if self.at >= 95 else "middle"


class Range(NamedTuple):
    """A row of a plot. Each place is a percentage; None where there is nothing to draw.

    band: start and width of ±1 margin. bar: start and width of the interval. dots: seeds.
    """

    band: tuple[float, float] | None
    zero: float
    bar: tuple[float, float] | None
    mean: float | None
    dots: list[float]


@dataclass(frozen=True)
class Axis:
    """A straight axis from `low` to `high`."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float], least: float, air: float = 0.04) -> "Axis":
        """One that holds zero, at least ± `least` and all finite values, with some air at both ends."""
        known = [value for value in values if isfinite(value)]
        low, high = min([-least, *known]), max([least, *known])
        room = air * (high - low)
        return cls(low - room, high + room)

    def at(self, value: float) -> float:
        """The place of a value; one outside is at the end."""
        inside = min(max(value, self.low), self.high)
        return round(100 * (inside - self.low) / (self.high - self.low), 2)

    def span(self, low: float, high: float) -> tuple[float, float]:
        """Start and width of an interval."""
        return self.at(low), round(self.at(high) - self.at(low), 2)

    def ticks(self, most: int, text: Callable[[float], str] | None = None) -> list[Tick]:
        """At most about `most` round numbers."""
        power = 10.0 ** floor(log10(max((self.high - self.low) / most, LEAST_STEP)) + 1e-9)
        step = next(factor * power for factor in (1, 2, 5, 10) if (self.high - self.low) / (factor * power) <= most)
        digits = max(0, -floor(log10(step) + 1e-9))
        values = [number * step for number in range(ceil(self.low / step), floor(self.high / step) + 1)]
        return [Tick(self.at(value), text(value) if text else signed(value, digits)) for value in values]

    def row(
        self, margin: float, mean: float, low: float, high: float, dots: Iterable[float] = (), drawn: bool = True
    ) -> Range:
        """A mean with its interval and seeds. drawn: otherwise only the band and the line at zero."""
        band = self.span(-margin, margin) if isfinite(margin) else None
        if not (drawn and isfinite(mean)):
            return Range(band, self.at(0), None, None, [])
        bar = self.span(low, high) if isfinite(low) and isfinite(high) and high > low else None
        return Range(band, self.at(0), bar, self.at(mean), [self.at(dot) for dot in dots])
