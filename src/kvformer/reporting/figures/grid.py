"""Results over a task's grid: a curve over one key, heat maps over several, and the loss of every setting."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from kvformer.analysis.quantities import quantity, short_key
from kvformer.reporting.cells import number, signed
from kvformer.reporting.figures.data import FigureData, Task
from kvformer.reporting.figures.layout import draw_grid, finish, legend_handles, panel_grid
from kvformer.reporting.figures.loss import cut_diverged, plot_variants, scale_loss
from kvformer.reporting.style import WIDTH

LOSS = "validation/loss"


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure per task with several settings and a finished run."""
    for task in data.tasks.values():
        keys = varying_keys(data, task)
        if keys and any(data.mean(task, v, setting).n for v in data.variants for setting in task.settings):
            yield task.name, (_curve if len(keys) == 1 else _heat_maps)(data, task, keys)


def draw_curves(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure per task with several settings and a recorded validation loss."""
    for task in data.tasks.values():
        if len(task.settings) > 1 and any(len(data.curve(task, LOSS, setting)) for setting in task.settings):
            yield task.name, _settings(data, task)


def varying_keys(data: FigureData, task: Task) -> list[str]:
    """The keys of a task's grid or named settings that take more than one value, in the order of the study."""
    named = dict.fromkeys(key for setting in task.settings for key in data.study.overrides[task.name, setting])
    return [key for key in named if len(set(_values(data, task, key))) > 1]


def _values(data: FigureData, task: Task, key: str) -> list[Any]:
    return [data.study.configurations[task.name, setting].get(key) for setting in task.settings]


def _curve(data: FigureData, task: Task, keys: list[str]) -> Figure:
    figure = Figure(figsize=(4.6, 3.1), layout="constrained")
    ax = figure.subplots()
    values = _values(data, task, keys[0])
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    logarithmic = numeric and min(values) > 0 and max(values) / min(values) >= 4
    places = values if numeric else range(len(values))
    span = (math.log(max(places) / min(places)) if logarithmic else max(places) - min(places)) or 1
    for index, variant in enumerate(data.variants):
        style = data.styles[variant]
        found = [data.mean(task, variant, setting) for setting in task.settings]
        # Variants are shifted sideways, or their intervals would hide one another.
        shift = index - (len(data.variants) - 1) / 2
        x = [
            place * math.exp(0.012 * shift * span) if logarithmic else place + 0.012 * shift * span for place in places
        ]
        low, high = np.array([[point.mean - point.low, point.high - point.mean] for point in found]).T
        ax.errorbar(
            x, [point.mean for point in found], [np.nan_to_num(low), np.nan_to_num(high)],
            **style.line, marker=style.marker, markeredgecolor="white", elinewidth=1.2,
        )  # fmt: skip
    ax.set_xlim(min(places) - 0.06 * span, max(places) + 0.06 * span)
    if logarithmic:
        ax.set_xscale("log")
        ax.set_xlim(min(places) * math.exp(-0.06 * span), max(places) * math.exp(0.06 * span))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator(list(places)))
    ax.set_xticklabels([f"{value:g}" if numeric else str(value) for value in values])
    ax.set_xlabel(short_key(keys[0]).capitalize())
    ax.set_ylabel(task.axis)
    finish(figure, task.label, legend_handles(data), data.notes([task]))
    return figure


def _heat_maps(data: FigureData, task: Task, keys: list[str]) -> Figure:
    """Rows: the first half of the keys, columns: the other half, every combination of their values."""
    down, across = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    sides = [list(zip(*(_values(data, task, key) for key in part), strict=True)) for part in (down, across)]
    rows, columns = (list(product(*map(dict.fromkeys, zip(*side, strict=True)))) for side in sides)
    places = [(rows.index(row), columns.index(column)) for row, column in zip(*sides, strict=True)]
    maps = {}
    for variant in data.variants:
        maps[variant] = np.full((len(rows), len(columns)), np.nan)
        for place, setting in zip(places, task.settings, strict=True):
            maps[variant][place] = data.mean(task, variant, setting).mean
    base = maps[data.study.baseline]
    width = min(WIDTH, 0.9 + len(maps) * (0.35 + 0.48 * len(columns)))
    figure = Figure(figsize=(max(width, 4.0), 1.3 + 0.34 * len(rows) + 0.16 * len(across)), layout="constrained")
    axes = figure.subplots(1, len(maps), squeeze=False, sharey=True)[0]
    gaps = [np.abs(values - base) for variant, values in maps.items() if variant != data.study.baseline]
    limit = float(np.nanmax(gaps, initial=0.0)) or 1.0
    digits = quantity(task.metric).decimals
    for ax, (variant, values) in zip(axes, maps.items(), strict=True):
        baseline = variant == data.study.baseline
        shown = values if baseline else values - base
        label = data.labels[variant]
        ax.set_title(f"{label}, {task.axis.lower()}" if baseline else f"{label} − {data.labels[data.study.baseline]}")
        words = number if baseline else signed
        seaborn.heatmap(
            shown,
            ax=ax,
            annot=[[words(value, digits).replace("-", "−") for value in row] for row in shown],
            fmt="",
            annot_kws={"fontsize": 7.5},
            cmap="cividis" if baseline else ("RdBu" if task.goal == "max" else "RdBu_r"),
            cbar=False,
            linewidths=0.5,
            vmin=None if baseline else -limit,
            vmax=None if baseline else limit,
            xticklabels=[_words(across, values) for values in columns],
            yticklabels=[_words(down, values) for values in rows],
        )
        ax.tick_params(length=0, labelsize=7)
        ax.tick_params(axis="x", rotation=0 if len(columns) <= 4 else 90)
        ax.tick_params(axis="y", rotation=0)
        ax.set_facecolor("#E6E6E6")
    finish(figure, task.label, [], data.notes([task]))
    return figure


def _words(keys: list[str], values: tuple[Any, ...]) -> str:
    return "\n".join(f"{short_key(key)} {value}" for key, value in zip(keys, values, strict=True))


def _settings(data: FigureData, task: Task) -> Figure:
    columns, rows = panel_grid(len(task.settings), 4)
    figure = Figure(figsize=(0.6 + 1.65 * columns, 1.0 + 1.45 * rows), layout="constrained")
    axes = draw_grid(figure, len(task.settings), columns, sharex=True, sharey=True)
    for ax, setting in zip(axes, task.settings, strict=True):
        plot_variants(data, data.curve(task, LOSS, setting), ax, "step")
        ax.set_title(setting, fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(3))
    _share_scale(axes)
    figure.supxlabel("Step", fontsize=9)
    figure.supylabel("Validation loss (nats)", fontsize=9)
    finish(figure, f"{task.label}: settings", legend_handles(data))
    return figure


def _share_scale(axes: list[Axes]) -> None:
    """One loss axis for all panels, fitted to the panel with the widest range."""
    limits = []
    for ax in axes:
        scale_loss(ax)
        limits.append(ax.get_ylim())
    axes[0].set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for ax in axes:
        cut_diverged(ax)
