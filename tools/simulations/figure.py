"""The picture of docs/statistics.md: what rules get wrong, and what designs decide for their price."""

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARKS = {"normal": "o", "t3": "s", "bimodal": "D", "exponential": "x"}
COLOURS = {"normal": "#004488", "t3": "#66AADD", "bimodal": "#BB5566", "exponential": "#777777"}
NAIVE = "5, 8, 12, 20 seeds until decided, t test"
BROKEN = {
    NAIVE: "5, 8, 12, 20 seeds\nuntil decided, t test",
    "looks 12, 20, Holm for each kind": "looks 12, 20,\nHolm for each kind",
}
"""Long names on two lines."""
SHOWN = {
    "version 1: 5 seeds, t test, all in one family": "version 1, 5 seeds",
    "5 seeds, t test": "5 seeds, t test",
    "12 seeds": "12 seeds",
    "looks 8, 12, 20": "looks 8, 12, 20",
    "looks 12, 20": "looks 12, 20",
    "20 seeds": "20 seeds",
    "looks 12, 20, 30": "looks 12, 20, 30",
    NAIVE: "until decided (invalid)",
}
"""The designs of the right panel, and their names there."""


def draw_figure(errors: pd.DataFrame, power: pd.DataFrame, path: Path) -> Path:
    """Left: family-wise errors by design and noise. Right: undecided comparisons against hours."""
    with matplotlib.rc_context({"font.size": 8, "svg.hashsalt": "kvformer", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9.5, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
        _errors(left, errors)
        _power(right, power)
        figure.savefig(path, metadata={"Date": None}, transparent=False)
    return path


def _errors(axes: Axes, errors: pd.DataFrame) -> None:
    designs = list(dict.fromkeys(errors["design"]))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    for offset, noise in enumerate(MARKS):
        worst = errors[errors["noise"] == noise].groupby("design")["any"].max().reindex(designs)
        places = [place + 0.15 * (offset - 1.5) for place in range(len(designs))]
        axes.plot(worst, places, MARKS[noise], color=COLOURS[noise], markersize=4, label=noise)
    axes.axvline(0.05, color="#444444", linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xticks([0, 0.05, 0.1, 0.2, 0.4, 0.8], ["0", "5 %", "10 %", "20 %", "40 %", "80 %"])
    axes.set_xlim(0, 0.9)
    axes.set_yticks(range(len(designs)), [BROKEN.get(name, name) for name in designs])
    axes.invert_yaxis()
    axes.set_xlabel("variants with a false word, at the worst of the simulated truths")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4)


def _power(axes: Axes, power: pd.DataFrame) -> None:
    rows = power.set_index("design").loc[list(SHOWN)]
    for place, (design, row) in enumerate(rows.iterrows()):
        mark, colour = ("x", "#BB5566") if design == NAIVE else ("o", "#004488")
        axes.plot(row["undecided"], place, mark, color=colour, markersize=5)
        axes.annotate(f"{row['hours']:.1f} h", (row["undecided"], place), (6, -3), textcoords="offset points")
    axes.set_yticks(range(len(SHOWN)), list(SHOWN.values()))
    axes.invert_yaxis()
    axes.set_xlabel(f"undecided of {power['tested'].iloc[0]} comparisons (and hours of one core)")
    axes.set_xlim(0, 40)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
