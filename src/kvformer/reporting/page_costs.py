"""The sections on costs and on published numbers: dots and ranges per variant."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from kvformer.reporting.plots import Axis, Range, Tick
from kvformer.reporting.verdicts import Verdicts
from kvformer.reporting.wording import SPACE, percent, signed

COSTS = {
    "parameters": ("Parameters", "of the whole model"),
    "macs": ("Multiply–accumulates", "per example"),
    "cache_bytes_per_token": ("Key–value cache", "bytes per token; decoders"),
    "step_ratio": ("Step time", "variants timed in turn"),
    "peak_bytes": ("Peak memory", "of one training step"),
    "decode_tokens_per_second": ("Decoding speed", "tokens per second; more is better"),
}
"""Title and note of each card, by the column of cost.csv."""


@dataclass(frozen=True)
class CostRow:
    """A variant in a card: a dot per task and setting, and their median."""

    variant: str
    dots: list[float]
    median: float
    text: str
    spread: str


@dataclass(frozen=True)
class CostCard:
    """What the variants cost, relative to the baseline."""

    title: str
    note: str
    ticks: list[Tick]
    zero: float
    rows: list[CostRow]


def cost_cards(verdicts: Verdicts) -> list[CostCard]:
    """One card per cost that was measured."""
    results = verdicts.results
    cards = []
    for cost, (title, note) in COSTS.items():
        changes = results.relative_costs[results.relative_costs["cost"] == cost]
        if changes.empty:
            continue
        axis = Axis.around([*changes["change"], -10], 5, 0.05)
        medians = results.savings[results.savings["cost"] == cost].set_index("variant").to_dict("index")
        rows = []
        for variant in verdicts.variants:
            if row := medians.get(variant):
                dots = [axis.at(change) for change in changes.loc[changes["variant"] == variant, "change"]]
                ends = [signed(row["low"], 0), signed(row["high"], 0)]
                spread = "" if ends[0] == ends[1] else " to ".join(ends)
                rows.append(CostRow(variant, dots, axis.at(row["median"]), percent(row["median"]), spread))
        ticks = axis.ticks(3, lambda value: f"{signed(value, 0)}{SPACE}%" if value else verdicts.baseline)
        cards.append(CostCard(title, note, ticks, axis.at(0), rows))
    return cards


@dataclass(frozen=True)
class PublishedRow:
    """A task in a card of published differences: ours above, theirs below."""

    label: str
    ours: Range
    theirs: Range
    here: str
    there: str


@dataclass(frozen=True)
class PublishedCard:
    """The published differences of a variant next to ours."""

    variant: str
    ticks: list[Tick]
    rows: list[PublishedRow]


def published(verdicts: Verdicts) -> dict[str, Any]:
    """Published paired differences of accuracies whose standard error is known, next to ours. Never a test."""
    table = verdicts.results.published
    known = table["compare_with"].str.startswith("difference ") & table["compare_with"].str.endswith("accuracy")
    rows = table[known & table["setting"].str.contains("standard error") & table["std"].notna()]
    rows = rows[rows["task"].isin(verdicts.tasks)].drop_duplicates(["task", "variant"])
    cards = [_card(verdicts, variant, rows[rows["variant"] == variant]) for variant in verdicts.variants]
    same = (rows["differs"] == "").any()
    differs: dict[str, list[str]] = {}
    for task, words in dict(zip(rows["task"], rows["differs"], strict=True)).items():
        if words:
            differs.setdefault(words, []).append(verdicts.tasks[task].label)
    return {
        "cards": [card for card in cards if card.rows],
        "sources": ", ".join(dict.fromkeys(rows["study"])),
        "context": "" if same else "No published setting equals ours, so these are context, not a test.",
        "differs": [f"{', '.join(tasks)}: ours (theirs): {words}." for words, tasks in differs.items()],
    }


def _card(verdicts: Verdicts, variant: str, rows: pd.DataFrame) -> PublishedCard:
    drawn = []
    for row in rows.to_dict("records"):
        mean, half = 100 * row["mean"], 196 * row["std"]
        ours = tuple(100 * row[name] for name in ("ours", "low", "high"))
        drawn.append((verdicts.tasks[row["task"]].label, ours, (mean, mean - half, mean + half)))
    axis = Axis.around([value for _, ours, theirs in drawn for value in (*ours, *theirs)], 2, 0.03)
    margin = 100 * (verdicts.study.margin("accuracy") or float("nan"))
    found = [
        PublishedRow(
            label, axis.row(margin, *ours), axis.row(margin, *theirs), signed(ours[0], 1), signed(theirs[0], 1)
        )
        for label, ours, theirs in drawn
    ]
    return PublishedCard(variant, axis.ticks(4), found)


def context(verdicts: Verdicts) -> dict[str, Any]:
    """What the templates need."""
    return {"costs": cost_cards(verdicts), "published": published(verdicts)}
