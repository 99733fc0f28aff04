"""What figures share: the title, the legend of variants, the note on runs that are not in it."""

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.style import GREY

LEGEND_COLUMNS = 4
"""Entries of a legend side by side; more make further rows."""


def legend_handles(data: FigureData, points: bool = False) -> list[Line2D]:
    """A legend entry for each variant, as a line, or as a marked point."""
    return [
        Line2D([], [], label=data.labels[name], **(style.point if points else style.line))
        for name, style in data.styles.items()
    ]


def name_panel(ax: Axes, name: str, inches: float, points: float = 9.5, pad: float | None = None) -> None:
    """Write `name` in letters of so many points above a panel of so many inches, in as many lines as that takes."""
    ax.set_title(textwrap.fill(name, max(1, int(inches * 124 / points))), fontsize=points, pad=pad)


def finish(figure: Figure, title: str, handles: list[Line2D], note: str = "") -> None:
    """Add the title, the legend to the right of it (the figure grows to hold both), and the note at the foot."""
    figure.suptitle(title, x=0.1 / figure.get_figwidth(), ha="left")
    if handles:
        columns = min(len(handles), LEGEND_COLUMNS)
        length = max(len(str(handle.get_label())) for handle in handles)
        needed = 0.3 + 0.115 * len(title) + columns * (0.75 + 0.085 * length)
        figure.set_figwidth(max(figure.get_figwidth(), needed))
        points = handles[0].get_linestyle() == "None"
        figure.legend(
            handles=handles,
            loc="outside upper right",
            ncols=columns,
            columnspacing=1.4,
            handlelength=1 if points else 3.2,
        )
    if note:
        words = textwrap.fill(note, int(figure.get_figwidth() * 16))
        figure.supxlabel(words, fontsize=7.5, color=GREY, x=0.1 / figure.get_figwidth(), ha="left")
