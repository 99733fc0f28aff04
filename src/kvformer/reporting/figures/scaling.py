"""Loss against compute with the fitted law, and the gap to the baseline against size."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.figures.layout import finish, legend_handles
from kvformer.reporting.style import GREY, WIDTH

APART = 1.1
"""Factor in size between the marks of two variants at one size."""
FAINT_ALPHA = 0.45
"""Opacity of the runs on fewer tokens in the panel of gaps."""
TOKENS = EngFormatter(places=1, sep="")
"""1.2M."""


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure, of the study's task whose losses have a law."""
    points = data.results.scaling
    if points["loss"].notna().any():
        task = data.tasks[points["task"].iloc[0]]
        figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        ranks = points.groupby(["variant", "size"])["tokens"].rank(method="first")
        points = points.assign(longest=ranks == ranks.max())
        _losses(left, data, points)
        _gaps(right, data, points)
        left.set_ylabel(task.axis)
        finish(figure, f"{task.label}: scaling", legend_handles(data, points=True), data.notes([task]))
        yield task.name, figure


def _losses(ax: Axes, data: FigureData, points: pd.DataFrame) -> None:
    """Loss against compute: a line through the fitted losses for each variant and number of tokens."""
    across = "compute" if points["compute"].notna().any() else "total"
    for (variant, _), own in points.groupby(["variant", "tokens"], sort=False):
        style, own = data.styles[str(variant)], own.sort_values("size")
        ax.plot(own[across], own["fitted"], color=style.colour, linewidth=0.9, zorder=1)
        for held_out, rows in own.groupby("held_out"):
            face = {"markerfacecolor": "white", "markeredgecolor": style.colour} if held_out else {}
            ax.plot(rows[across], rows["loss"], **{**style.point, **face}, markersize=4.5, zorder=2)
        predicted = own[own["held_out"]]
        ax.plot(
            predicted[across],
            predicted["predicted"],
            color=style.colour,
            linestyle="none",
            marker="_",
            markersize=10,
            zorder=3,
        )
    for tokens in np.unique(points["tokens"].to_numpy(float)).tolist():
        alike = points[points["tokens"] == tokens]
        last = alike[alike["size"] == alike["size"].max()]
        lowest = (last[across].max(), last[["loss", "fitted"]].to_numpy().min())
        label = f"{TOKENS(tokens)} tokens"
        ax.annotate(label, lowest, (8, -6), textcoords="offset points", ha="right", va="top", fontsize="x-small")
    ax.margins(y=0.08)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("Compute (floating-point operations)" if across == "compute" else "Parameters")
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(LogLocator(10))
    ax.set_title("Loss and law")


def _gaps(ax: Axes, data: FigureData, points: pd.DataFrame) -> None:
    """Gap against the baseline's size, with its interval; runs on fewer tokens are faint and hollow."""
    ax.axhline(0, color="black", linewidth=0.8, zorder=1)
    shown = points.dropna(subset=["gap"])
    variants = [variant for variant in data.variants if (shown["variant"] == variant).any()]
    for (variant, longest), own in shown.groupby(["variant", "longest"], sort=False):
        style, own = data.styles[str(variant)], own.sort_values("size")
        place = 2 * variants.index(str(variant)) + bool(longest) - len(variants) + 0.5
        x = own["size"].to_numpy(float) * APART**place
        look = style.point if longest else {**style.point, "markerfacecolor": "white", "markeredgecolor": style.colour}
        alpha = 1.0 if longest else FAINT_ALPHA
        ax.vlines(x, own["gap_low"], own["gap_high"], color=style.colour, linewidth=1.2, alpha=alpha, zorder=2)
        ax.plot(x, own["gap"], **look, markersize=4, alpha=alpha, zorder=3)
    sizes = np.unique(points["size"])
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(sizes.tolist()))
    ax.xaxis.set_major_formatter(EngFormatter(places=0, sep=""))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel(f"Parameters of {data.labels[data.study.baseline]}")
    ax.set_ylabel(f"Gap to {data.labels[data.study.baseline]} (nats)")
    ax.set_title("Gap")
    ax.spines["bottom"].set_color(GREY)
