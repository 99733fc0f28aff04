"""A table of text, written as CSV, Markdown and LaTeX: the same cells in all three."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kvformer.files import write_text
from kvformer.reporting import latex
from kvformer.reporting.columns import Column, columns

EMPTY = "–"
"""What stands in an empty cell in print; in CSV it stays empty."""


@dataclass(frozen=True)
class Table:
    """A finished table: every cell is text.

    name: file name without suffix. caption: what it shows and how to read it, in one paragraph. bold: (row, column).
    printed: the columns in print and on the report's page, where all would be too many; CSV and Markdown have them all.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    bold: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    printed: tuple[str, ...] = ()

    def write(self, folder: Path) -> list[Path]:
        """Write `<name>.csv`, `.md` and `.tex` into `folder`; returns the three paths."""
        texts = {"csv": self.frame.to_csv(index=False, lineterminator="\n"), "md": self.markdown(), "tex": self.latex()}
        paths = [folder / f"{self.name}.{suffix}" for suffix in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            write_text(path, text)
        return paths

    def markdown(self) -> str:
        """The table for GitHub and the like, its caption below."""
        header = [_markdown(str(column)) for column in self.frame.columns]
        rows = [[self._mark(_markdown(cell), place, "**{}**") for cell, place in row] for row in self._rows()]
        lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
        return "\n".join([*lines, "", self.caption, ""])

    def latex(self) -> str:
        """The printed columns in LaTeX, with booktabs rules."""
        return latex.table(self.name, self.caption, self.shown(), EMPTY)

    def shown(self) -> list[Column]:
        """The printed columns."""
        return columns(self.frame, self.bold, self.printed)

    def _rows(self) -> list[list[tuple[str, tuple[int, int]]]]:
        return [
            [(str(cell) or EMPTY, (row, column)) for column, cell in enumerate(cells)]
            for row, cells in enumerate(self.frame.itertuples(index=False, name=None))
        ]

    def _mark(self, text: str, place: tuple[int, int], pattern: str) -> str:
        return pattern.format(text) if place in self.bold else text


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_").replace("*", "\\*").replace("<", "&lt;")


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


def difference_columns(rows: pd.DataFrame) -> dict[str, "pd.Series | list[str]"]:
    """The columns of every table of paired differences: the mean, its interval, and in how many pairs it is better."""
    return {
        **{name: rows[name].map(signed) for name in ("difference", "low", "high")},
        "better in": [f"{better} of {n}" for better, n in zip(rows["favourable"], rows["n"], strict=True)],
    }


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
