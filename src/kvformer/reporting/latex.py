"""A table in LaTeX: what fits a page of print, with booktabs rules."""

import re
from collections.abc import Iterable, Iterator
from textwrap import wrap

from kvformer.reporting.columns import Column

MINUS = re.compile(r"(?<!\w)-(?=\d)")
CHARACTERS = {
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
    "\N{NO-BREAK SPACE}": "~",
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
INTERVAL = re.compile(r"(?P<mean>\S+) (?P<interval>\[.*\])(?P<lost> \(\d+/\d+\))?")
STACK_FROM = 5
"""A table of this many columns or more sets an interval below its mean."""
ROWS = 36
"""A longer table goes on as another one."""
LONG = 60
"""Text of more characters than this is set in lines."""


def escape(text: str) -> str:
    """`text` for LaTeX: special characters escaped; minus signs and the symbols that our tables use in mathematics."""
    return "".join(CHARACTERS.get(character, character) for character in MINUS.sub("−", text))


def table(name: str, caption: str, shown: list[Column], empty: str) -> str:
    """A `table` for each page of rows, shrunk where it is wider than the line; needs `booktabs` and `graphicx`."""
    stacked = len(shown) >= STACK_FROM and any(_is_interval(cell) for column in shown for cell in column.cells)
    cells = [[_cell(column, row, stacked, empty) for row in range(len(column.cells))] for column in shown]
    rows = [" & ".join(row) + r" \\" for row in zip(*cells, strict=True)]
    firsts = shown[0].cells
    for row in range(1, len(rows)):
        if stacked or firsts[row] != firsts[row - 1]:
            rows[row] = r"\addlinespace" + "\n" + rows[row]
    lines = [rf"% needs \usepackage{{booktabs,graphicx}}; {name}.csv has every column"]
    for start in range(0, max(1, len(rows)), ROWS):
        title = rf"\caption{{{escape(caption)}}}" + "\n" + rf"\label{{tab:{name}}}"
        if start:
            title = r"\addtocounter{table}{-1}" + "\n" + r"\caption[]{(continued)}"
        lines += [
            r"\begin{table}",
            r"\centering\small",
            title,
            r"\smallskip",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{''.join(_kind(column) for column in shown)}}}",
            r"\toprule",
            " & ".join(_header(column, stacked) for column in shown) + r" \\",
            r"\midrule",
            *rows[start : start + ROWS],
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    return "\n".join([*lines, ""])


def _is_interval(cell: str) -> bool:
    return INTERVAL.fullmatch(cell) is not None


def _stack(lines: Iterable[str], side: str, place: str) -> str:
    return rf"\begin{{tabular}}[{place}]{{@{{}}{side}@{{}}}}" + r"\\".join(lines) + r"\end{tabular}"


def _kind(column: Column) -> str:
    return r"p{7cm}" if column.side == "l" and max(map(len, column.cells), default=0) > LONG else column.side


def _header(column: Column, stacked: bool) -> str:
    lines = [escape(line) for line in _lines(column, stacked)]
    return lines[0] if len(lines) == 1 else _stack(lines, column.side, "b")


def _lines(column: Column, stacked: bool) -> Iterator[str]:
    """A header longer than what stands below it, in several lines; `(n = 6)` stays together."""
    parts = [part for cell in column.cells for part in (cell.split(" [") if stacked else [cell])]
    width = min(LONG, max([*map(len, parts), 8])) + 2
    kept = re.sub(r"\(.*?\)", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), column.header)
    for part in [kept] if len(kept) <= width else kept.split(", "):
        yield from wrap(part, max(width, *map(len, part.split(" "))))


def _cell(column: Column, row: int, stacked: bool, empty: str) -> str:
    text, bold = column.cells[row] or empty, row in column.bold
    found = INTERVAL.fullmatch(text) if stacked else None
    mean = escape(found["mean"] if found else text)
    mean = rf"\textbf{{{mean}}}" if bold else mean
    if found is None:
        return mean
    below = rf"{{\footnotesize {escape(found['interval'])}}}"
    return _stack([mean + escape(found["lost"] or ""), below], column.side, "t")
