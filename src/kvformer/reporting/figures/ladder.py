"""Ladder: the paired differences of many variants side by side, a panel per task and setting, in the study's order."""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kvformer.analysis.quantities import Quantity, quantity
from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.figures.forest import MANY, draw_interval, limits_of, lost_pairs
from kvformer.reporting.figures.layout import draw_grid, finish, name_panel, panel_grid
from kvformer.reporting.style import GREY, WIDTH

FEW_SETTINGS = 3
"""Up to this many settings of a task have panels of their own."""
COLUMNS = 3
ROW, HEAD = 0.19, 0.75
"""Heights in inches: of a variant's row, and of a panel's title and axis."""
WORSE, BETTER = "#A8392B", "#1B5A94"
COLOURS = {"worse": WORSE, "leaning worse": "#D98F80", "better": BETTER, "leaning better": "#7FA9D0"}
COLOURS |= {"equivalent": "#222222", "both solve": "#222222"}
"""Colours of verdicts; all others are grey."""
LEGEND = {
    "worse": WORSE,
    "leaning": COLOURS["leaning worse"],
    "better": BETTER,
    "equivalent": "#222222",
    "undecided": GREY,
}


class Panel(NamedTuple):
    """The differences of all variants on a task, over all settings or at one."""

    title: str
    what: Quantity
    rows: pd.DataFrame


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure, where colours do not tell the variants apart: their names stand at the rows."""
    compared = [name for name in data.variants if name != data.study.baseline]
    panels = list(_panels(data)) if len(data.variants) > MANY else []
    if not panels:
        return
    columns, rows = panel_grid(len(panels), COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.6 + rows * (HEAD + ROW * len(compared))), layout="constrained")
    axes = draw_grid(figure, len(panels), columns, sharey=True)
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, panel, compared)
        name_panel(ax, panel.title, (WIDTH - 0.9) / columns)
    axes[0].set_yticks(range(len(compared)), [data.labels[name] for name in compared])
    axes[0].set_ylim(len(compared) - 0.4, -0.6)
    handles = [Line2D([], [], label=word, color=colour, marker="o") for word, colour in LEGEND.items()]
    title = f"Differences to {data.labels[data.study.baseline]}"
    finish(figure, title, handles, lost_pairs(data, data.results.paired))
    yield "differences", figure


def _panels(data: FigureData) -> Iterator[Panel]:
    """A panel per task, or per setting of a task that has few."""
    results = data.results
    for task in data.tasks.values():
        single = 1 < len(task.settings) <= FEW_SETTINGS
        table = results.paired_settings if single else results.paired
        for setting in task.settings if single else ("",):
            of_task = (table["task"] == task.name) & ((table["setting"] == setting) if single else True)
            rows = table[of_task & (table["n"] > 0) & table["difference"].notna()]
            if not rows.empty:
                yield Panel(f"{task.label}, {setting}" if setting else task.label, quantity(task.metric), rows)


def _draw_panel(ax: Axes, panel: Panel, variants: list[str]) -> None:
    """A row per variant; positive values lie to the right, whatever is better there."""
    what, table = panel.what, panel.rows
    limits = limits_of(table, what.scale)
    margin = what.scale * table["margin"].iloc[0]
    if pd.notna(margin):
        ax.axvspan(-margin, margin, color="#E9E9E9", linewidth=0, zorder=0)
    ax.axvline(0, color="black", linewidth=0.8, zorder=1)
    for row in table.to_dict("records"):
        y, colour = variants.index(row["variant"]), COLOURS.get(row["verdict"], GREY)
        mean, low, high = (what.scale * row[name] for name in ("difference", "low", "high"))
        draw_interval(ax, y, (low, high), limits, color=colour, linewidth=1.6, markersize=4)
        ax.plot(mean, y, "o", color=colour, markeredgecolor="white", markersize=4.5)
    ax.set_xlim(*limits)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(axis="y", length=0)
    better = "right" if table["goal"].iloc[0] == "max" else "left"
    ax.set_xlabel(f"{what.title if what.step == what.title else what.step}, {better} is better", fontsize=8)
    ax.spines["left"].set_visible(False)
