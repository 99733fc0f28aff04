"""How values are printed, and a column of printed values."""

from dataclasses import dataclass

import pandas as pd

EMPTY = "–"
"""What stands in an empty cell in print; in CSV it stays empty."""


@dataclass(frozen=True)
class Column:
    """A printed column: its header, its cells, and the rows that are bold."""

    header: str
    cells: list[str]
    bold: frozenset[int] = frozenset()

    @property
    def side(self) -> str:
        """Numbers to the right, text to the left."""
        cells = [cell for cell in self.cells if cell != EMPTY]
        return "r" if cells and all(cell[0] in "+-[0123456789" for cell in cells) else "l"

    @property
    def width(self) -> int:
        """Characters of the longest cell."""
        return max(map(len, self.cells), default=0)


def number(value: float, digits: int = 4) -> str:
    """A number with a fixed count of decimals; empty for NaN. Minus zero is zero."""
    if pd.isna(value):
        return ""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign."""
    text = number(value, digits)
    return f"+{text}" if text and float(text) > 0 else text


def whole(value: float) -> str:
    """A count without decimals; empty for NaN."""
    return "" if pd.isna(value) else f"{round(value)}"


def probability(value: float) -> str:
    """A p value: three decimals, or an order of magnitude below 0.001."""
    if pd.isna(value):
        return ""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def interval(mean: float, low: float, high: float, digits: int = 4) -> str:
    """`0.981 [0.979, 0.983]`; the mean alone where there is no interval."""
    if pd.isna(mean):
        return ""
    if pd.isna(low):
        return number(mean, digits)
    return f"{number(mean, digits)} [{number(low, digits)}, {number(high, digits)}]"
