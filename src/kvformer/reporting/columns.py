"""The columns of a table that are shown, in print and on the report's page; CSV and Markdown have them all."""

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Column:
    """A printed column: its header, its cells, and the rows that are bold."""

    header: str
    cells: list[str]
    bold: frozenset[int] = frozenset()

    @property
    def side(self) -> str:
        """Numbers to the right, text to the left."""
        return "r" if all(cell[:1] in "+-[0123456789" for cell in self.cells) and any(self.cells) else "l"


def columns(frame: pd.DataFrame, bold: Collection[tuple[int, int]], printed: Collection[str]) -> list[Column]:
    """The columns to print: those named (all, if none is); ends of an interval in one; none that says nothing."""
    found = []
    for place, name in enumerate(frame.columns):
        cells = [str(cell) for cell in frame.iloc[:, place]]
        header = str(name)
        if (printed and name not in printed) or (name == "high" and "low" in frame.columns):
            continue
        if name == "low" and "high" in frame.columns:
            ends = zip(cells, map(str, frame["high"]), strict=True)
            header, cells = "95 % interval", [f"[{low}, {high}]" if low else "" for low, high in ends]
        if cells and (not any(cells) or (name == "setting" and set(cells) == {"default"})):
            continue
        found.append(Column(header, cells, frozenset(row for row, column in bold if column == place)))
    return found
