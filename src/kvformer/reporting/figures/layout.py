"""What figures share: the title, the legend of variants, the note on runs that are not in it."""

import textwrap

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.style import GREY


def legend_handles(data: FigureData, points: bool = False) -> list[Line2D]:
    """A legend entry for each variant, as a line, or as a marked point."""
    return [
        Line2D([], [], label=data.labels[name], **(style.point if points else style.line))
        for name, style in data.styles.items()
    ]


def finish(figure: Figure, title: str, handles: list[Line2D], note: str = "") -> None:
    """Add the title, the legend to the right of it, and the note at the foot."""
    width = figure.get_figwidth()
    figure.suptitle(title, x=0.012, ha="left")
    if handles:
        columns = min(len(handles), max(1, int(width / 1.3)))
        figure.legend(handles=handles, loc="outside upper right", ncols=columns, columnspacing=1.6)
    if note:
        figure.supxlabel("\n".join(textwrap.wrap(note, int(width * 16))), fontsize=7.5, color=GREY, x=0.012, ha="left")
