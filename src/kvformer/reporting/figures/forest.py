"""Forest plot: the paired difference of every variant to the baseline, task by task."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kvformer.analysis.quantities import Quantity, quantity
from kvformer.reporting.cells import signed
from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.figures.layout import finish, legend_handles
from kvformer.reporting.style import GREY, WIDTH

NAMED_RUNS = 2
"""Up to this many lost runs of a comparison are named; more are counted."""
MANY = 6
"""Colours do not tell more variants apart, the baseline among them."""
ROW = 0.23
"""Height of a variant's row, in inches."""


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure for each quantity that tasks are judged by (accuracy, loss, BLEU), since each has its own axis.

    Many variants are drawn by `ladder` instead.
    """
    table = data.results.paired
    if table.empty or len(data.variants) > MANY:
        return
    kinds = table["metric"].map(quantity)
    for what in dict.fromkeys(kinds):
        if (part := table[kinds == what])["n"].gt(0).any():
            yield what.name, draw_quantity(data, what, part)


def draw_quantity(data: FigureData, what: Quantity, table: pd.DataFrame) -> Figure:
    """All tasks judged by one quantity: a group of rows per task, a row per variant."""
    scale = what.scale
    groups = [(str(task), rows) for task, rows in table.groupby("task", sort=False)]
    height = sum(ROW * len(rows) + 0.12 for _, rows in groups)
    figure = Figure(figsize=(WIDTH, 1.15 + height), layout="constrained")
    ax = figure.subplots()
    limits = limits_of(table, scale)
    ticks, y = {}, 0.0
    for task, rows in groups:
        top = y
        for row in rows.to_dict("records"):
            _row(ax, data, row, y, what, limits)
            y += 1
        ticks[(top + y - 1) / 2] = data.tasks[task].label
        margin = rows["margin"].iloc[0]
        if pd.notna(margin):
            ax.fill_betweenx(
                [top - 0.6, y - 0.4], -scale * margin, scale * margin, color="#E9E9E9", linewidth=0, zorder=0
            )
        y += 0.5
    ax.axvline(0, color="black", linewidth=0.8, zorder=1)
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.tick_params(axis="y", length=0, labelsize=9)
    ax.set_ylim(y - 0.9, -0.6)
    ax.set_xlim(*limits)
    ax.xaxis.set_major_locator(MaxNLocator(7))
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)
    better = "right" if table["goal"].iloc[0] == "max" else "left"
    unit = "" if what.step == what.title else f"{what.step}; "
    ax.set_xlabel(f"Difference to {data.labels[data.study.baseline]} in {what.title} ({unit}{better} is better)")
    compared = legend_handles(data, points=True)[1:]
    finish(figure, f"Paired differences in {what.title}", compared, lost_pairs(data, table))
    return figure


def limits_of(table: pd.DataFrame, scale: float) -> tuple[float, float]:
    """The ends of the axis: wide enough for every mean and margin, and for nine of ten intervals."""
    low, high = (table[name].dropna().to_numpy(dtype=float) for name in ("low", "high"))
    means, margins = (table[name].dropna().to_numpy(dtype=float) for name in ("difference", "margin"))
    room = 1.5 * margins.max(initial=0.0)
    left = min(np.quantile(low, 0.1) if low.size else 0.0, means.min(initial=0.0), -room)
    right = max(np.quantile(high, 0.9) if high.size else 0.0, means.max(initial=0.0), room)
    air = 0.06 * (right - left) or 1.0 / scale
    return float(scale * (left - air)), float(scale * (right + air))


def draw_interval(
    ax: Axes, y: float, ends: tuple[float, float], limits: tuple[float, float], markersize: float, **line: Any
) -> None:
    """A bar at the height y, with an arrow head at each limit of the axis that it passes; nothing where it is NaN."""
    if not np.isfinite(ends[0]):
        return
    ax.plot(np.clip(ends, *limits), [y, y], solid_capstyle="butt", **line)
    for end, marker, limit in zip(ends, "<>", limits, strict=True):
        if not limits[0] <= end <= limits[1]:
            ax.plot(limit, y, marker, color=line["color"], markersize=markersize, clip_on=False)


def _row(
    ax: Axes, data: FigureData, row: Mapping[Any, Any], y: float, what: Quantity, limits: tuple[float, float]
) -> None:
    """One variant of one task: interval and mark, and the numbers to the right of the panel."""
    mean, low, high, n = (row[name] for name in ("difference", "low", "high", "n"))
    style = data.styles[row["variant"]]
    words: dict[str, Any] = {"verticalalignment": "center", "fontsize": 7.5, "transform": ax.get_yaxis_transform()}
    if not n or np.isnan(mean):
        ax.text(1.02, y, "no pair of runs", color=GREY, clip_on=False, **words)
        return
    digits = what.step_decimals
    mean, low, high = (what.scale * value for value in (mean, low, high))
    interval = f" [{signed(low, digits)}, {signed(high, digits)}]" if np.isfinite(low) else ""
    draw_interval(ax, y, (low, high), limits, color=style.colour, linewidth=1.8, markersize=5)
    ax.plot(mean, y, **style.point)
    verdict = f"{row['verdict']}, " if row["verdict"] else ""
    text = f"{signed(mean, digits)}{interval}  {verdict}n = {n}"
    ax.text(1.02, y, text.replace("-", "−"), color="black", clip_on=False, **words)


def lost_pairs(data: FigureData, table: pd.DataFrame) -> str:
    """Which pairs are incomplete: each with its lost run, or the number of lost runs where there are many."""
    parts = []
    for row in table[table["unpaired"] != ""].to_dict("records"):
        lost = row["unpaired"].split("; ")
        words = row["unpaired"] if len(lost) <= NAMED_RUNS else f"{len(lost)} excluded runs"
        parts.append(f"{data.tasks[row['task']].label}, {data.labels[row['variant']]} ({words})")
    return "Pairs without " + "; ".join(parts) + "." if parts else ""
