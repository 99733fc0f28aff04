"""A table of text, written as CSV, Markdown and LaTeX: the same cells in all three."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kvformer.files import write_text

EMPTY = "–"
"""What stands in an empty cell in print; in CSV it stays empty."""
MINUS = re.compile(r"(?<!\w)-(?=\d)")
LATEX = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "Δ": r"$\Delta$",
    "…": r"\ldots{}",
}


@dataclass(frozen=True)
class Table:
    """A finished table: every cell is text.

    name: file name without suffix. caption: what it shows and how to read it, in one paragraph. bold: (row, column).
    printed: the columns of the LaTeX version, where all of them would not fit a page; CSV and Markdown have them all.
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
        """A `table` with booktabs rules, shrunk where it is wider than the line; needs `booktabs` and `graphicx`."""
        shown = [index for index, name in enumerate(self.frame.columns) if not self.printed or name in self.printed]
        header = [latex(str(self.frame.columns[index])) for index in shown]
        rows = [
            [self._mark(latex(row[index][0]), row[index][1], r"\textbf{{{}}}") for index in shown]
            for row in self._rows()
        ]
        lines = [" & ".join(cells) + r" \\" for cells in (header, *rows)]
        return "\n".join(
            [
                rf"% needs \usepackage{{booktabs,graphicx}}; {self.name}.csv has every column",
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{latex(self.caption)}}}",
                rf"\label{{tab:{self.name}}}",
                r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
                rf"\begin{{tabular}}{{{''.join(self._alignment(index) for index in shown)}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}}",
                r"\end{table}",
                "",
            ]
        )

    def _alignment(self, index: int) -> str:
        """Numbers to the right, text to the left."""
        column = self.frame.iloc[:, index]
        return "r" if all(cell[:1] in "+-0123456789" for cell in column) and any(column) else "l"

    def _rows(self) -> list[list[tuple[str, tuple[int, int]]]]:
        return [
            [(str(cell) or EMPTY, (row, column)) for column, cell in enumerate(cells)]
            for row, cells in enumerate(self.frame.itertuples(index=False, name=None))
        ]

    def _mark(self, text: str, place: tuple[int, int], pattern: str) -> str:
        return pattern.format(text) if place in self.bold else text


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_").replace("*", "\\*").replace("<", "&lt;")


def latex(text: str) -> str:
    """`text` for LaTeX: special characters escaped; minus signs and the symbols that our tables use in mathematics."""
    return "".join(LATEX.get(character, character) for character in MINUS.sub("−", text))


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
