"""Cost and benefit: the metric of each task against parameters, and against the measured costs if there are any."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from kvformer.reporting.figures.data import FigureData, Task
from kvformer.reporting.figures.layout import finish, legend_handles, task_panels
from kvformer.reporting.style import FAINT

COSTS = {
    "parameters": ("Parameters", 1),
    "macs": ("MACs", 1),
    "cache_bytes_per_token": ("Cache (B/token)", 1),
    "step_seconds": ("Training step (ms)", 1000),
    "peak_bytes": ("Memory (B)", 1),
}
"""Columns of costs, with their axis labels and the factor to the unit there."""
BEATEN_ALPHA = 0.35
"""Opacity of variants that another one beats in cost and benefit."""


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure per family with a finished run."""
    costs = data.results.drawn_costs.set_index(["task", "variant"])
    for family, tasks in data.families.items():
        shown = [task for task in tasks if task.name in costs.index.get_level_values("task")]
        if shown:
            yield family, draw_family(data, family, shown, costs)


def draw_family(data: FigureData, family: str, tasks: list[Task], costs: pd.DataFrame) -> Figure:
    """Costs (rows) × tasks (columns; beyond five, further blocks of rows)."""
    own = costs.loc[[task.name for task in tasks]]
    names = [name for name in COSTS if name in own and own[name].notna().any()]
    figure, panels = task_panels(tasks, rows=len(names), width=0, head=0.6, height=0.2 + 1.75 * len(names))
    for task, axes in zip(tasks, panels, strict=True):
        for ax, name in zip(axes, names, strict=True):
            label, factor = COSTS[name]
            _panel(ax, data, task, factor * costs.loc[task.name][name])
            ax.set_xlabel(label)
    finish(figure, f"{family.capitalize()}: cost and benefit", legend_handles(data, points=True), data.notes(tasks))
    return figure


def _panel(ax: Axes, data: FigureData, task: Task, costs: pd.Series) -> None:
    found = {variant: data.mean(task, variant) for variant in data.variants if np.isfinite(costs.get(variant, np.nan))}
    places = {variant: (float(costs[variant]), one.mean) for variant, one in found.items() if one.n}
    front = pareto_front(list(places.values()), task.goal)
    ax.plot(*zip(*front, strict=True) if front else ([], []), color=FAINT, linewidth=1.0, zorder=0)
    ends: list[float] = []
    for variant, (cost, mean) in places.items():
        style, low, high = data.styles[variant], found[variant].low, found[variant].high
        strength = 1.0 if (cost, mean) in front else BEATEN_ALPHA
        if np.isfinite(low):
            ax.plot([cost] * 2, [low, high], color=style.colour, linewidth=1.4, alpha=strength)
        ax.plot(cost, mean, **style.point, alpha=strength)
        ends += [end for end in (low, mean, high) if np.isfinite(end)]
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.margins(x=0.18)
    if ends:
        margin = max(0.1 * (max(ends) - min(ends)), 0.004 * max(map(abs, ends)))
        ax.set_ylim(min(ends) - margin, max(ends) + margin)


def pareto_front(places: list[tuple[float, float]], goal: str) -> list[tuple[float, float]]:
    """The (cost, metric) places that no other beats in one without losing in the other, by rising cost."""
    sign = 1 if goal == "max" else -1
    front: list[tuple[float, float]] = []
    for cost, metric in sorted(places, key=lambda place: (place[0], -sign * place[1])):
        if not front or sign * metric > sign * front[-1][1]:
            front.append((cost, metric))
    return front
