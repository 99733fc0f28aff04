"""The metric that each task is judged by: bars on the full scale, and zoomed in with every seed."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from kvformer.analysis.quantities import quantity
from kvformer.reporting.figures.data import FigureData, Mean, Task
from kvformer.reporting.figures.layout import finish, task_panels
from kvformer.reporting.style import FAINT, GREY


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure per family with a finished run."""
    for family, tasks in data.families.items():
        if any(data.mean(task, variant).n for task in tasks for variant in data.variants):
            yield family, draw_family(data, family, tasks)


def draw_family(data: FigureData, family: str, tasks: list[Task]) -> Figure:
    """The tasks of a family side by side: bars above, seeds and intervals below."""
    figure, panels = task_panels(tasks, rows=2, width=0.42 * len(data.variants), head=0.5, height=3.5)
    for task, (full, zoom) in zip(tasks, panels, strict=True):
        means = {variant: data.mean(task, variant) for variant in data.variants}
        _bars(data, task, means, full)
        _points(data, task, means, zoom)
    finish(figure, family.capitalize(), [], data.notes(tasks))
    return figure


def _bars(data: FigureData, task: Task, means: dict[str, Mean], ax: Axes) -> None:
    digits = quantity(task.metric).decimals
    for place, (variant, found) in enumerate(means.items()):
        if found.n:
            ax.bar(place, found.mean, width=0.72, color=data.styles[variant].colour)
            text, above = f"{found.mean:.{digits}f}", (0, 1)
            ax.annotate(text, (place, found.mean), above, textcoords="offset points", ha="center", fontsize=7)
    if task.scale == 100:
        ax.set_ylim(0, 109)
        ax.yaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
    else:
        ax.yaxis.set_major_locator(MaxNLocator(4))
    if task.chance is not None and task.scale * task.chance <= ax.get_ylim()[1]:
        ax.axhline(task.scale * task.chance, color="black", linestyle=":", linewidth=1)
    _name_places(data, ax)


def _points(data: FigureData, task: Task, means: dict[str, Mean], ax: Axes) -> None:
    everything: list[float] = []
    for place, (variant, found) in enumerate(means.items()):
        style = data.styles[variant]
        if not found.n:
            across = ax.get_xaxis_transform()
            ax.text(place, 0.5, "no run", transform=across, ha="center", color=GREY, rotation=90, fontsize=7.5)
            continue
        points = data.seed_means(task, variant)
        offsets = place + 0.24 + 0.14 * np.linspace(-1, 1, points.size) * (points.size > 1)
        ax.plot(offsets, points, **{**style.point, "markersize": 3.2, "markeredgewidth": 0}, alpha=0.75)
        interval = [end for end in (found.low, found.high) if np.isfinite(end)]
        ax.plot([place - 0.14] * len(interval), interval, color=style.colour, linewidth=1.8, solid_capstyle="butt")
        ax.plot(place - 0.14, found.mean, **{**style.point, "markersize": 7})
        everything += [*points, *interval, found.mean]
    if everything:
        low, high = min(everything), max(everything)
        margin = 0.08 * (high - low) or 0.002 * abs(high) or 0.01
        ax.set_ylim(low - margin, high + margin)
        if task.scale == 100 and high <= 100:
            ax.set_ylim(top=min(high + margin, 100 + 0.1 * (100 - low + margin)))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    _name_places(data, ax)


def _name_places(data: FigureData, ax: Axes) -> None:
    labels = [data.labels[variant] for variant in data.variants]
    crowded = len(labels) > 4 or max(map(len, labels)) > 6
    ax.set_xticks(range(len(labels)), labels, rotation=90 if crowded else 0)
    ax.tick_params(axis="x", length=0, labelsize=7.5)
    ax.set_xlim(-0.6, len(labels) - 0.4)
    ax.spines["bottom"].set_color(FAINT)
