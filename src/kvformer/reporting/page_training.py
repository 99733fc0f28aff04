"""The section on training: how the gap to the baseline develops, and who is only slower."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from kvformer.analysis.quantities import quantity
from kvformer.reporting.plots import Axis
from kvformer.reporting.style import variant_styles
from kvformer.reporting.verdicts import Verdicts
from kvformer.reporting.wording import SPACE, name, sentence_case, signed

WIDTH, LEFT, TOP, LEAST_HEIGHT, BELOW = 400, 30, 8, 190, 22
LABEL, LETTER = 13, 7
"""Height of the names at the ends of the curves, and the width of a letter."""
LATE = 0.49
"""From this share of the training on, all of every curve is inside the frame."""
WHITE, NIGHT = (255, 255, 255), (19, 23, 26)
READABLE = 4.5
PACES = {
    "only slower": "**Only slower** (more than two margins behind on the way, level at the end)",
    "still behind": "**Still behind** at the end, by more than one margin",
}


@dataclass(frozen=True)
class Curve:
    """A variant in a chart: its points, and the height of its end and of its name. number: of its style."""

    variant: str
    number: int
    points: str
    end: float
    label: float


@dataclass(frozen=True)
class Chart:
    """The gap of every variant on a task, in margins. Sizes are in the units of the picture."""

    task: str
    label: str
    metric: str
    words: str
    band: tuple[float, float]
    rules: list[tuple[float, str]]
    shares: list[tuple[float, str]]
    curves: list[Curve]
    right: int
    bottom: int
    width: int = WIDTH
    left: int = LEFT
    top: int = TOP

    @property
    def height(self) -> int:
        """Of the whole picture."""
        return self.bottom + BELOW


@dataclass(frozen=True)
class PageStyle:
    """A variant's colour by day and by night, and its dashes."""

    colour: str
    light: str
    dashes: str


def styles(variants: Iterable[str]) -> dict[str, PageStyle]:
    """The colours of the figures, darker or lighter where a name in them could not be read."""
    found = {}
    for variant, style in variant_styles(variants).items():
        dashes = " ".join(f"{1.6 * length:.1f}" for length in style.dash[1] or ()) or "none"
        found[variant] = PageStyle(_readable(style.colour, WHITE), _readable(style.colour, NIGHT), dashes)
    return found


def _readable(colour: str, ground: tuple[int, int, int]) -> str:
    """The colour, mixed with black or white until text in it stands out from the ground."""
    own = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    far = 0 if sum(ground) > 384 else 255
    for step in range(21):
        mixed = [round(value + (far - value) * step / 20) for value in own]
        bright, dark = sorted((_luminance(mixed), _luminance(ground)), reverse=True)
        if (bright + 0.05) / (dark + 0.05) >= READABLE:
            break
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _luminance(colour: Iterable[int]) -> float:
    """Relative luminance (WCAG 2)."""
    shares = [value / 255 for value in colour]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def charts(verdicts: Verdicts) -> list[Chart]:
    """One per task on which a gap can be seen."""
    gaps = verdicts.results.gap_curves
    shown = []
    for task in verdicts.tasks:
        rows = gaps[(gaps["task"] == task) & gaps["margins"].notna()]
        if len(rows) and rows["margins"].abs().max() >= 0.05:
            shown.append(_chart(verdicts, task, rows))
    return shown


def _chart(verdicts: Verdicts, task: str, rows: pd.DataFrame) -> Chart:
    right = WIDTH - 14 - LETTER * max(map(len, rows["variant"]))
    bottom = max(LEAST_HEIGHT, TOP + BELOW + LABEL * rows["variant"].nunique()) - BELOW
    late = rows.loc[rows["share"] >= LATE, "margins"]
    low, high = 1.08 * min(-2, late.min()), 1.05 * max(1.6, late.max())

    def y(margins: float) -> float:
        return round(float(TOP + (bottom - TOP) * (high - margins) / (high - low)), 1)

    def x(share: float) -> float:
        return round(LEFT + (right - LEFT) * share, 1)

    found = {str(variant): own for variant, own in rows.sort_values("share").groupby("variant")}
    order = [variant for variant in verdicts.variants if variant in found]
    points = {
        variant: " ".join(f"{x(share)},{y(gap)}" for share, gap in found[variant][["share", "margins"]].to_numpy())
        for variant in order
    }
    ends = {variant: found[variant]["margins"].iloc[-1] for variant in order}
    labels = _apart({variant: y(end) for variant, end in ends.items()}, bottom)
    said = "; ".join(f"{variant} {signed(end, 1)}" for variant, end in ends.items())
    metric, label = rows["metric"].iloc[0], verdicts.tasks[task].label
    return Chart(
        task=task,
        label=label,
        metric=f"{metric.rpartition('/')[0]} {quantity(metric).title}".strip(),
        words=f"{label}: gap to {verdicts.baseline} over training, in margins; at the end: {said}",
        band=(y(min(1, high)), round(y(-1) - y(min(1, high)), 1)),
        rules=[(y(low + (high - low) * tick.at / 100), tick.text.lstrip("+")) for tick in Axis(low, high).ticks(4)],
        shares=[(x(share), f"{100 * share:.0f}{SPACE}%") for share in (0.25, 0.5, 0.75, 1)],
        curves=[
            Curve(variant, verdicts.study.variants.index(variant), points[variant], y(ends[variant]), labels[variant])
            for variant in order
        ],
        right=right,
        bottom=bottom,
    )


def _apart(places: dict[str, float], bottom: int) -> dict[str, float]:
    """The same places, moved until names at them do not overlap."""
    names = sorted(places, key=lambda name: places[name])
    moved = [places[name] for name in names]
    for _ in range(60):
        for first, second in pairwise(range(len(moved))):
            push = max(0.0, LABEL - moved[second] + moved[first]) / 2
            moved[first], moved[second] = moved[first] - push, moved[second] + push
        moved[0], moved[-1] = max(moved[0], TOP + 4), min(moved[-1], bottom + 2)
    return {name: round(place, 1) for name, place in zip(names, moved, strict=True)}


def gap_means(verdicts: Verdicts) -> dict[str, Any] | None:
    """The mean gap over tasks at each share of the training; None where there is none."""
    rows = verdicts.results.gap_averages
    if rows.empty:
        return None
    shares = sorted(rows["share"].unique())
    cells = rows.set_index(["variant", "share"])["margins"].to_dict()
    found = [
        {"variant": variant, "texts": [signed(cells[variant, share], 1) for share in shares]}
        for variant in verdicts.variants
        if (variant, shares[0]) in cells
    ]
    return {"shares": [f"{100 * share:.0f}{SPACE}%" for share in shares], "rows": found, "tasks": rows["tasks"].max()}


def paces(verdicts: Verdicts) -> list[str]:
    """Who is only slower, and who is still behind, task by task."""
    pace = verdicts.results.pace
    sentences = []
    for verdict, words in PACES.items():
        rows = pace[pace["verdict"] == verdict]
        found = set(zip(rows["task"], rows["variant"], strict=True))
        by_task = {
            task: [variant for variant in verdicts.variants if (task, variant) in found] for task in verdicts.tasks
        }
        parts = [
            f"{sentence_case(verdicts.tasks[task].label)} ({', '.join(map(name, variants))})"
            for task, variants in by_task.items()
            if variants
        ]
        if parts:
            sentences.append(f"{words}: {'; '.join(parts)}.")
    return sentences


def caveat(verdicts: Verdicts) -> str:
    """That a learning rate that falls flattens every curve, if it does."""
    pace = verdicts.results.pace
    tasks, falling = pace["task"].nunique(), pace.loc[pace["decays"], "task"].nunique()
    if not falling:
        return ""
    where = "all tasks" if falling == tasks else f"{falling} of {tasks} tasks"
    return (
        f"On {where} the learning rate falls towards the end, which flattens every line: a flat end does not say what "
        "a longer training would do."
    )


def context(verdicts: Verdicts) -> dict[str, Any]:
    """What the template needs."""
    return {
        "gaps": charts(verdicts),
        "gap_means": gap_means(verdicts),
        "paces": paces(verdicts),
        "caveat": caveat(verdicts),
        "styles": styles(verdicts.study.variants),
    }
