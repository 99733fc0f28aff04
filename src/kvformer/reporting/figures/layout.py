"""What figures share: the title, the legend of variants, the note on runs that are not in it."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kvformer.reporting.figures.data import FigureData, Task
from kvformer.reporting.style import GREY

COLUMNS = 5
"""Tasks side by side; further ones go below."""
MAX_LAYERS = 4
LEGEND_COLUMNS = 4
"""Entries of a legend side by side; more make further rows."""


def legend_handles(data: FigureData, points: bool = False) -> list[Line2D]:
    """A legend entry for each variant, the baseline first, as a line, or as a marked point."""
    return [
        Line2D([], [], label=data.labels[name], **(style.point if points else style.line))
        for name, style in data.styles.items()
    ]


def chosen_layers(count: int) -> list[int]:
    """Places of the layers that are drawn of `count`: at most four, evenly spaced."""
    return [round(place) for place in np.linspace(0, count - 1, min(count, MAX_LAYERS))]


def name_panel(ax: Axes, name: str, inches: float, points: float = 9.5, pad: float | None = None) -> None:
    """Write `name` above a panel of this width in as many lines as it takes, in letters of this size."""
    ax.set_title(textwrap.fill(name, max(1, int(inches * 124 / points))), fontsize=points, pad=pad)


def panel_grid(panels: int, most: int) -> tuple[int, int]:
    """Columns, `most` of them, and rows of a figure with this many panels."""
    columns = min(most, panels)
    return columns, -(-panels // columns)


def draw_grid(figure: Figure, panels: int, columns: int, sharex: bool = False, sharey: bool = False) -> list[Axes]:
    """The axes of this many panels, row by row."""
    rows = panel_grid(panels, columns)[1]
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for ax in axes[panels:]:
        ax.remove()
    return list(axes[:panels])


def task_panels(
    tasks: list[Task], rows: int, width: float, head: float, height: float
) -> tuple[Figure, list[np.ndarray]]:
    """A figure with a column of panels per task, and the axes of each task from top to bottom.

    rows: panels per task. width: least width of a column in inches. head, height: of the title and of a task's panels.
    """
    columns, blocks = panel_grid(len(tasks), COLUMNS)
    across = max(3.4, 0.7 + columns * max(1.4 if columns > 3 else 2.0, width))
    figure = Figure(figsize=(across, head + blocks * height), layout="constrained")
    axes = figure.subplots(blocks * rows, columns, squeeze=False).reshape(blocks, rows, columns).swapaxes(1, 2)
    found = list(axes.reshape(-1, rows))
    for index, (task, panels) in enumerate(zip(tasks, found, strict=False)):
        name_panel(panels[0], task.label, across / columns)
        if index % columns == 0 or task.axis != tasks[index - 1].axis:
            for ax in panels:
                ax.set_ylabel(task.axis)
    for ax in np.ravel(found[len(tasks) :]):
        ax.remove()
    return figure, found[: len(tasks)]


def finish(figure: Figure, title: str, handles: list[Line2D], note: str = "") -> None:
    """Add the title, the legend to the right of it (the figure grows to hold both), and the note at the foot."""
    figure.suptitle(title, x=0.1 / figure.get_figwidth(), ha="left")
    if handles:
        columns = min(len(handles), LEGEND_COLUMNS)
        length = max(len(str(handle.get_label())) for handle in handles)
        needed = 0.3 + 0.115 * len(title) + columns * (0.75 + 0.085 * length)
        figure.set_figwidth(max(figure.get_figwidth(), needed))
        line = 1 if handles[0].get_linestyle() == "None" else 3.2
        figure.legend(handles=handles, loc="outside upper right", ncols=columns, columnspacing=1.4, handlelength=line)
    if note:
        words = textwrap.fill(note, int(figure.get_figwidth() * 16))
        figure.supxlabel(words, fontsize=7.5, color=GREY, x=0.1 / figure.get_figwidth(), ha="left")
