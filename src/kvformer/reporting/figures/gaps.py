"""The gap to the baseline over training, in margins."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from kvformer.reporting.figures.data import FigureData, Task
from kvformer.reporting.figures.layout import draw_grid, finish, legend_handles, name_panel, panel_grid
from kvformer.reporting.style import WIDTH

COLUMNS = 3
LABELLED = 8
"""Up to this many curves have their names at their ends; more have a legend."""
HEIGHT = 1.9
"""Of a row of panels, in inches."""
LETTERS = 0.075
"""Of the height of a panel: the least distance between two names at the ends of curves."""


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure for each family with a task whose runs were evaluated often enough."""
    known = data.results.gap_curves.dropna(subset=["margins"])
    for family, members in data.families.items():
        tasks = [task for task in members if (known["task"] == task.name).any()]
        if tasks:
            yield family, draw_family(data, family, tasks, known)


def draw_family(data: FigureData, family: str, tasks: list[Task], known: pd.DataFrame) -> Figure:
    """The tasks of a family, a panel each. known: rows of `Results.gap_curves` that have a margin."""
    columns, rows = panel_grid(len(tasks), COLUMNS)
    width = max(WIDTH * columns / COLUMNS, 4.4)
    figure = Figure(figsize=(width, 0.75 + HEIGHT * rows), layout="constrained")
    axes = draw_grid(figure, len(tasks), columns, sharex=True)
    named = len(data.variants) - 1 <= LABELLED
    for place, (ax, task) in enumerate(zip(axes, tasks, strict=True)):
        name_panel(ax, task.label, width / columns)
        _panel(ax, data, known[known["task"] == task.name], named)
        lowest = place + columns >= len(tasks)
        ax.tick_params(labelbottom=lowest)
        ax.set_xlabel("Share of the steps" if lowest else "")
        ax.set_ylabel("" if place % columns else "Gap in margins")
    title = f"{family.capitalize()}: gap to {data.labels[data.study.baseline]}"
    finish(figure, title, [] if named else legend_handles(data)[1:], data.notes(tasks))
    return figure


def _panel(ax: Axes, data: FigureData, rows: pd.DataFrame, named: bool) -> None:
    """The curves of a task with the interval at the end; the axis is fitted to the second half of training."""
    ax.axhspan(-1, 1, color="#E9E9E9", linewidth=0, zorder=0)
    ax.axhline(0, color="black", linewidth=0.8, zorder=1)
    curves = {name: own for name in data.variants if len(own := rows[rows["variant"] == name])}
    for place, (variant, own) in enumerate(curves.items()):
        style, end = data.styles[variant], own.iloc[-1]
        ax.plot(100 * own["share"], own["margins"], **style.line)
        x = 101.5 + 1.5 * place
        if np.isfinite(end["margins_low"]):
            ends = [end["margins_low"], end["margins_high"]]
            ax.plot([x, x], ends, color=style.colour, linewidth=1.6, solid_capstyle="butt")
    late, last = rows.loc[rows["share"] >= 0.5, "margins"], rows[rows["share"] == 1]
    low = np.nanmin([-1.3, *late, *last["margins_low"]])
    high = np.nanmax([1.3, *late, *last["margins_high"]])
    ax.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    ax.set_xlim(0, 102 + 1.5 * len(curves))
    ax.xaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %" if value == 100 else f"{value:.0f}"))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    if named:
        _name_ends(ax, data, {variant: own["margins"].iloc[-1] for variant, own in curves.items()})


def _name_ends(ax: Axes, data: FigureData, ends: dict[str, float]) -> None:
    """Write each variant's name to the right of the end of its curve, moved apart where they would overlap."""
    low, high = ax.get_ylim()
    order = sorted(ends, key=lambda variant: ends[variant])
    heights = np.array([(ends[variant] - low) / (high - low) for variant in order])
    for _ in range(200):  # each step moves neighbours that are too close half of the way apart
        missing = np.maximum(0, LETTERS - np.diff(heights)) / 2
        heights += np.concatenate([[0.0], missing]) - np.concatenate([missing, [0.0]])
    heights -= max(0.0, heights.max() - 1)
    for variant, height in zip(order, heights, strict=True):
        ax.text(
            *(1.02, height, data.labels[variant]),
            transform=ax.transAxes, color=data.styles[variant].colour, fontsize=7, verticalalignment="center",
        )  # fmt: skip
