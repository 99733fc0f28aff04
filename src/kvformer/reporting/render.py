"""A table of text, written as CSV, Markdown and LaTeX: the same cells in all three."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from kvformer.files import write_text
from kvformer.reporting import latex
from kvformer.reporting.cells import EMPTY, Column, number, signed

Format = Callable[[Any], str]
Layout = Mapping[str, tuple[str, Format]]
"""Columns of a printed table: header → column of the numbers, and how a value is printed."""


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
        columns = self._columns()
        rows = [
            [_bold(_markdown(column.cells[row]), row in column.bold) for column in columns]
            for row in range(len(self.frame))
        ]
        header = [_markdown(column.header) for column in columns]
        lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
        return "\n".join([*lines, "", self.caption, ""])

    def latex(self) -> str:
        """The printed columns in LaTeX, with booktabs rules."""
        return latex.table(self.name, self.caption, self.shown())

    def shown(self) -> list[Column]:
        """The printed columns: those named (all, if none is), with both ends of an interval in one, and without those
        that are empty or hold nothing but the setting `default`."""
        found = []
        columns = self._columns()
        named = {column.header: column for column in columns}
        for column in columns:
            name = column.header
            if (self.printed and name not in self.printed) or (name == "high" and "low" in named):
                continue
            if name == "low" and "high" in named:
                ends = zip(column.cells, named["high"].cells, strict=True)
                column = Column("95 % interval", [f"[{low}, {high}]" if low != EMPTY else EMPTY for low, high in ends])
            nothing = {EMPTY, "default"} if name == "setting" else {EMPTY}
            if not column.cells or set(column.cells) - nothing:
                found.append(column)
        return found

    def _columns(self) -> list[Column]:
        return [
            Column(
                header=str(name),
                cells=[str(cell) or EMPTY for cell in self.frame.iloc[:, place]],
                bold=frozenset(row for row, at in self.bold if at == place),
            )
            for place, name in enumerate(self.frame.columns)
        ]


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_").replace("*", "\\*").replace("<", "&lt;")


def decimals(digits: int) -> Format:
    """Numbers with this many decimals."""
    return partial(number, digits=digits)


def change(digits: int) -> Format:
    """Signed numbers with this many decimals."""
    return partial(signed, digits=digits)


def yes(flag: bool) -> str:
    """`yes`, or nothing."""
    return "yes" if flag else ""


def lay_out(rows: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Numbers as text."""
    return pd.DataFrame({header: [text(v) for v in rows[name]] for header, (name, text) in layout.items()}, dtype=str)


def alike(text: Format, *names: str) -> dict[str, tuple[str, Format]]:
    """The layout of columns that are printed in the same way under their own names."""
    return {name.replace("_", " "): (name, text) for name in names}


DIFFERENCE = alike(signed, "difference", "low", "high") | alike(str, "better_in")
"""The columns of every table of paired differences: the mean, its interval, and in how many pairs it is better."""


def with_better_in(rows: pd.DataFrame) -> pd.DataFrame:
    """Paired differences with the column `better_in`."""
    return rows.assign(better_in=[f"{better} of {n}" for better, n in zip(rows["favourable"], rows["n"], strict=True)])
