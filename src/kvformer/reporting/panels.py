"""The panels of the first screen, ready to be drawn: the average, the map, and what is not decided."""

from dataclasses import dataclass
from math import nan

import pandas as pd

from kvformer.analysis.frames import hours_of
from kvformer.analysis.quantities import quantity
from kvformer.analysis.results import Results
from kvformer.analysis.verdicts import BOTH_SOLVE
from kvformer.reporting.plots import Axis, Range, Tick
from kvformer.reporting.verdicts import Verdicts
from kvformer.reporting.wording import SPACE, count, interval, listing, margin_of, name, percent, sentence_case, signed

BOLD = -20
"""A cost is bold from this change on, in per cent."""
MEANINGS = {
    "worse": "decided after adjustment for all tasks",
    "leaning worse": "interval excludes zero, adjusted test does not decide",
    "undecided": "no proof of equality",
    "not worse": "shown to lose less than one margin",
    "equivalent": "shown to lie inside the margin",
    "leaning better": "interval excludes zero, adjusted test does not decide",
    "better": "decided after adjustment for all tasks",
    BOTH_SOLVE: "in all seeds: says nothing about a difference",
}
"""Verdicts on single tasks in the order of the key, and what they say."""
SHORT = {
    "attention_parameters": "attention params",
    "cache_bytes_per_token": "KV cache",
    "macs": "MACs",
    "step_ratio": "step time",
}
LEAST_LIKELY = 2
"""How many comparisons are named that more seeds are least likely to decide."""
UNITS = {"points": "points of accuracy"}


@dataclass(frozen=True)
class Saving:
    """A cost of a variant in the table of averages. left: what remains of it, for a bar."""

    title: str
    text: str = "–"
    tip: str = ""
    bold: bool = False
    left: float | None = None


@dataclass(frozen=True)
class AverageRow:
    """A variant in the table of averages."""

    variant: str
    verdict: str
    mean: str
    interval: str
    least: int
    tasks: int
    plot: Range
    savings: list[Saving]


@dataclass(frozen=True)
class Average:
    """The table of averages. empty: the plot of a row without a variant."""

    rows: dict[str, AverageRow]
    ticks: list[Tick]
    empty: Range
    costs: list[str]


def average(verdicts: Verdicts) -> Average:
    """One row per variant on one axis, in margins."""
    seeds = verdicts.results.overall_seeds.groupby("variant")["value"].agg(list).to_dict()
    rows = verdicts.overall
    ends = [row[end] for row in rows.values() for end in ("mean", "low", "high")]
    axis = Axis.around([*ends, *(value for values in seeds.values() for value in values)], 1.5)
    known = set(verdicts.results.savings["cost"])
    costs = [cost for cost in SHORT if cost in known]
    found = {
        variant: AverageRow(
            variant,
            verdicts.word(variant),
            signed(row["mean"], 2),
            interval(row["low"], row["high"], 2),
            int(row["worse_at_least"]),
            int(row["tasks"]),
            axis.row(1, row["mean"], row["low"], row["high"], () if verdicts.many else seeds.get(variant, ())),
            [_saving(verdicts, variant, cost) for cost in costs],
        )
        for variant in verdicts.variants
        if (row := rows.get(variant))
    }
    ticks = axis.ticks(5, lambda value: signed(value, 0) if value else verdicts.baseline)
    return Average(found, ticks, axis.row(1, nan, nan, nan), [SHORT[cost] for cost in costs])


def _saving(verdicts: Verdicts, variant: str, cost: str) -> Saving:
    table = verdicts.results.savings
    rows = table[(table["variant"] == variant) & (table["cost"] == cost)].to_dict("records")
    if not rows:
        return Saving(SHORT[cost])
    (row,) = rows
    spread = f"from {percent(row['low'])} to {percent(row['high'])}"
    tip = f"{SHORT[cost]}: median {percent(row['median'])} over {count(row['settings'], 'setting')}, {spread}"
    left = min(100.0, 100 + row["median"])
    return Saving(SHORT[cost], percent(row["median"]), tip, bool(row["median"] <= BOLD), round(left))


def key(verdicts: Verdicts) -> dict[str, str]:
    """The verdicts that occur on single tasks, with their meaning."""
    found = {cell.word for cell in verdicts.cells.values() if cell.n}
    return {} if verdicts.silent else {word: words for word, words in MEANINGS.items() if word in found}


def units(verdicts: Verdicts) -> str:
    """`points of accuracy, nats or BLEU`."""
    steps = dict.fromkeys(cell.what.step for cell in verdicts.cells.values())
    return listing(UNITS.get(step, step) for step in steps).replace(" and ", " or ")


def margins(verdicts: Verdicts) -> str:
    """`1 point of accuracy, 0.02 nats of loss or 1 BLEU`: the margins of the study."""
    found = []
    for metric, margin in verdicts.study.manifest.equivalence_margin.items():
        what = quantity(metric)
        if any(cell.what.name == what.name for cell in verdicts.cells.values()):
            found.append(margin_of(margin, what) + (f" of {what.title}" if what.step != what.title else ""))
    return listing(found).replace(" and ", " or ") if found else "not fixed in this study"


@dataclass(frozen=True)
class Plan:
    """Expected open comparisons with a number of seeds. bar: as a share of those below the ceiling, in per cent."""

    seeds: str
    open: str
    hours: str
    bar: float
    now: bool = False


def plans(verdicts: Verdicts) -> list[Plan]:
    """What is open now, and how much of it more seeds would be expected to leave open."""
    planning, still = planned(verdicts.results), len(verdicts.open)
    if planning.empty or not still:
        return []
    share = 100 / len(verdicts.below)
    hours = float(verdicts.results.counts["seconds"].sum()) / 3600
    now = verdicts.pairs_said if verdicts.study.manifest.looks else verdicts.seeds_said
    found = [Plan(now, str(still), _hours(hours), share * still, True)]
    for seeds, rows in planning.groupby("seeds"):
        left = still - rows["chance"].sum()
        found.append(Plan(str(seeds), f"≈{SPACE}{left:.0f}", _hours(hours_of(rows)), share * left))
    return found


def planned(results: Results) -> pd.DataFrame:
    """The rows of the table of planning that are to come: further looks, or else a new study. None where nothing can be
    predicted, because no comparison has pairs enough."""
    further = results.planning["plan"] == "further looks"
    rows = results.planning[further] if further.any() else results.planning
    return rows if rows["chance"].notna().any() else rows.iloc[:0]


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours < 10 else f"{hours:.0f}"


def plan_words(verdicts: Verdicts) -> list[str]:
    """What more seeds would decide, and what they would not."""
    planning, still = planned(verdicts.results), len(verdicts.open)
    if planning.empty or not still:
        return []
    most = planning["seeds"].max()
    rows = planning[planning["seeds"] == most].dropna(subset=["chance"]).sort_values("chance", kind="stable")
    share = "most" if rows["chance"].sum() > still / 2 else "some"
    what = "The further looks" if (planning["plan"] == "further looks").any() else "A new study of them"
    hard = [
        f"{sentence_case(verdicts.study.label(row['task']))} {name(row['variant'])} ({100 * row['chance']:.0f}{SPACE}%)"
        for row in rows.head(LEAST_LIKELY).to_dict("records")
    ]
    words = [f"{what} with up to {most} seeds would be expected to decide {share}."]
    return [*words, f"Least likely with {most}: {listing(hard)}."] if hard else words


def rests_on(verdicts: Verdicts) -> list[str]:
    """How many seeds the averages rest on, where not all seeds have every task."""
    by_count: dict[int, list[str]] = {}
    for variant, row in verdicts.overall.items():
        if row["n"] < verdicts.pairs:
            by_count.setdefault(int(row["n"]), []).append(variant)
    alike = len(by_count) == 1
    return [
        f"{'Averages' if alike else listing(map(name, variants))}: {count(n, 'seed')} that have every task."
        for n, variants in by_count.items()
    ]
