"""A table in LaTeX by pandas' Styler: what fits a page of print, with booktabs rules."""

import re
from textwrap import wrap

import pandas as pd

from kvformer.reporting.cells import Column

CHARACTERS = {
    **{character: rf"\{character}" for character in "_&%#${}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\N{NO-BREAK SPACE}": "~",
    "<": r"\textless{}", ">": r"\textgreater{}", "–": "--", "…": r"\ldots{}", "−": "$-$", "±": r"$\pm$",
    "×": r"$\times$", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$", "Δ": r"$\Delta$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$",
}  # fmt: skip
INTERVAL = re.compile(r"(?P<mean>\S+) (?P<interval>\[.*\])(?P<lost> \(\d+/\d+\))?")
STACK_FROM = 5
"""A table of this many columns or more sets an interval below its mean."""
ROWS = 28
"""A longer table continues as another one."""
LONG = 60
"""Text of more characters than this is broken into lines."""


def escape(text: str) -> str:
    """`text` for LaTeX. Styler's own escape knows neither minus signs nor the symbols of our tables."""
    return "".join(CHARACTERS.get(character, character) for character in re.sub(r"(?<!\w)-(?=\d)", "−", text))


def table(name: str, caption: str, shown: list[Column]) -> str:
    """A `table` for each page of rows, shrunk where it is wider than the line; needs `booktabs` and `graphicx`."""
    stacked = len(shown) >= STACK_FROM and any(INTERVAL.fullmatch(cell) for column in shown for cell in column.cells)
    cells = pd.DataFrame({place: column.cells for place, column in enumerate(shown)})
    bold = pd.DataFrame({place: [row in column.bold for row in cells.index] for place, column in enumerate(shown)})
    kinds = [r"p{7cm}" if column.side == "l" and column.width > LONG else column.side for column in shown]
    lines = [rf"% needs \usepackage{{booktabs,graphicx}}; {name}.csv has every column"]
    for start in range(0, max(1, len(cells)), ROWS):
        page = cells[start : start + ROWS]
        style = page.style.hide(axis="index").format(lambda text: _cell(str(text), stacked))
        style.format_index(lambda place: _header(shown[int(str(place))], stacked), axis=1)
        style.apply(lambda part: bold.loc[part.index].replace({True: "textbf:--rwrap", False: ""}), axis=None)
        title = rf"\caption{{{escape(caption)}}}\label{{tab:{name}}}"
        body = style.to_latex(hrules=True, column_format="".join(kinds)).rstrip().split("\n")
        for row in reversed(range(1, len(page))):
            if stacked or shown[0].cells[start + row] != shown[0].cells[start + row - 1]:
                body.insert(body.index(r"\midrule") + 1 + row, r"\addlinespace")
        lines += [r"\begin{table}", r"\centering\small"]
        lines += [r"\addtocounter{table}{-1}\caption[]{(continued)}" if start else title, r"\smallskip"]
        lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", *body[:-1], body[-1] + "}"]
        lines.append(r"\end{table}")
    return "\n".join([*lines, ""])


def _stack(lines: list[str], side: str, place: str) -> str:
    return rf"\begin{{tabular}}[{place}]{{@{{}}{side}@{{}}}}" + r"\\".join(lines) + r"\end{tabular}"


def _header(column: Column, stacked: bool) -> str:
    """A header longer than the cells below it, in several lines; `(n = 6)` stays together."""
    parts = [part for cell in column.cells for part in (cell.split(" [") if stacked else [cell])]
    width = min(LONG, max([*map(len, parts), 8])) + 2
    kept = column.header.replace("(n = ", "(n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    lines = [escape(line) for part in kept.split(", ") for line in wrap(part, width)]
    return lines[0] if len(lines) == 1 else _stack(lines, column.side, "b")


def _cell(text: str, stacked: bool) -> str:
    found = INTERVAL.fullmatch(text) if stacked else None
    if found is None:
        return escape(text)
    mean = escape(found["mean"] + (found["lost"] or ""))
    return _stack([mean, rf"{{\footnotesize {escape(found['interval'])}}}"], "r", "t")
