"""Loss over training: against wall-clock time and against steps, on training and on validation data."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from kvformer.analysis.quantities import axis_label
from kvformer.reporting.figures.data import FigureData, Task
from kvformer.reporting.figures.layout import finish, legend_handles
from kvformer.reporting.style import BAND_ALPHA, GREY, WIDTH

LOSSES = ("train/loss", "validation/loss")
DIVERGED_MARKER = "x"
LOG_ABOVE = 20.0
"""Ratio of the largest to the smallest mean from which the loss axis is logarithmic."""


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure for each task with a recorded loss: train and validation, against time and against steps."""
    for task in data.tasks.values():
        if any(not data.curve(task, metric).empty for metric in LOSSES):
            yield task.name, draw_task(data, task)


def draw_task(data: FigureData, task: Task) -> Figure:
    """The four panels of one task."""
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    axes = figure.subplots(2, 2, sharey="col")
    for column, metric in zip(axes.T, LOSSES, strict=True):
        frame = data.curve(task, metric)
        for ax, (x, label) in zip(column, {"elapsed": "Training time (s)", "step": "Step"}.items(), strict=True):
            plot_variants(data, frame, ax, x)
            ax.set_xlabel(label)
            ax.set_ylabel(axis_label(metric))
        scale_loss(column[0])
        for ax in column:
            cut_diverged(ax)
    finish(figure, task.label, legend_handles(data), data.notes([task]))
    return figure


def plot_variants(data: FigureData, frame: pd.DataFrame, ax: Axes, x: str, scale: float = 1.0) -> None:
    """Draw a mean curve with a band for each variant, and each diverged run, against the column `x` of `frame`.

    frame: of `FigureData.curve`.
    """
    for variant in data.variants:
        style = data.styles[variant]
        own = frame[frame["variant"] == variant]
        for _, run in own[own["seed"] != ""].groupby(["setting", "seed"], sort=False):
            finite = run[np.isfinite(run["mean"])]
            if not finite.empty:
                look: dict[str, Any] = {
                    "linewidth": 0.8,
                    "marker": DIVERGED_MARKER,
                    "markevery": [-1],
                    "clip_on": False,
                }
                ax.plot(finite[x], scale * finite["mean"], color=style.colour, **look)
        mean = own[own["seed"] == ""].dropna(subset=[x])
        if not mean.empty:
            ax.fill_between(
                mean[x], scale * mean["low"], scale * mean["high"], color=style.colour, alpha=BAND_ALPHA, linewidth=0
            )
            ax.plot(mean[x], scale * mean["mean"], **style.line)
    ax.set_xlim(left=0)
    if not ax.lines:
        ax.text(0.5, 0.5, "no finite value", transform=ax.transAxes, ha="center", color=GREY)


def scale_loss(ax: Axes) -> None:
    """Fit the loss axis to the mean curves and bands, logarithmic where they span orders of magnitude.

    Diverged runs have no say, else they would flatten everything else.
    """
    bands = [np.asarray(path.vertices)[:, 1] for band in ax.collections for path in band.get_paths()]
    values = np.concatenate(bands) if bands else np.array([])
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = values.min(), values.max()
    if low > 0 and high / low > LOG_ABOVE:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_ylim(low / 1.2, high * 1.2)
    else:
        margin = 0.05 * (high - low) or 0.05
        ax.set_ylim(low - margin, high + margin)


def cut_diverged(ax: Axes) -> None:
    """End the line of each diverged run where it leaves the panel."""
    top = ax.get_ylim()[1]
    for line in ax.get_lines():
        if line.get_marker() == DIVERGED_MARKER:
            x, y = (np.asarray(values) for values in line.get_data())
            inside = y <= top
            end = len(y) if inside.all() else int(np.argmin(inside)) + 1
            line.set_data(x[:end], np.minimum(y[:end], top))
