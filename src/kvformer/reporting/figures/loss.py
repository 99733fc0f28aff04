"""Curves over training: the loss against wall-clock time and steps, and the progress of language tasks by epoch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from kvformer.analysis.quantities import axis_label, quantity
from kvformer.reporting.figures.data import FigureData, Task
from kvformer.reporting.figures.layout import finish, legend_handles
from kvformer.reporting.style import BAND_ALPHA, GREY, WIDTH

LOSSES = ("train/loss", "validation/loss")
AXES = {"elapsed": "Training time (s)", "step": "Step", "epoch": "Epoch"}
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
    for row, x in zip(axes, ("elapsed", "step"), strict=True):
        for ax, metric in zip(row, LOSSES, strict=True):
            _plot_metric(data, task, metric, ax, x)
    finish(figure, task.label, legend_handles(data), data.notes([task]))
    return figure


def draw_epochs(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure for each language task with a recorded loss: both losses, and what the model gets right."""
    for task in data.families.get("language", []):
        judged = f"validation/{quantity(task.metric).name}"
        third = "validation/accuracy" if judged.endswith("loss") else judged
        metrics = [metric for metric in (*LOSSES, third) if not data.curve(task, metric).empty]
        if metrics:
            yield task.name, draw_task_epochs(data, task, metrics)


def draw_task_epochs(data: FigureData, task: Task, metrics: list[str]) -> Figure:
    """The panels of one task, one for each metric."""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    for ax, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        _plot_metric(data, task, metric, ax, "epoch")
        ax.xaxis.set_major_locator(MaxNLocator(3))
    finish(figure, task.label, legend_handles(data), data.notes([task]))
    return figure


def _plot_metric(data: FigureData, task: Task, metric: str, ax: Axes, x: str) -> None:
    what = quantity(metric)
    plot_variants(data, data.curve(task, metric), ax, x, what.scale)
    ax.set_xlabel(AXES[x])
    ax.set_ylabel(axis_label(metric))
    if what.name == "loss":
        scale_loss(ax)
        cut_diverged(ax)


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
