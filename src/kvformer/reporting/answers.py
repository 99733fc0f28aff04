"""The four answers under the headline, about 25 words each. Each is built from verdicts and says no more than they do.

Markdown with `code` and **strong**.
"""

from statistics import median
from typing import NamedTuple

from kvformer.analysis.results import Results
from kvformer.analysis.verdicts import OPEN
from kvformer.reporting.headline import NAMED, be, named
from kvformer.reporting.verdicts import SAFE, Verdicts
from kvformer.reporting.wording import SPACE, capital, count, interval, listing, name, sentence_case, signed, word

FEW_SEEDS = 3
SHRUNK = 0.8
"""A gap that is smaller than this share of what it was at half of the training has shrunk."""
SAME = 0.5
"""Changes of a cost below this, in per cent, count as none."""
COSTS = {
    "cache_bytes_per_token": "key–value cache",
    "attention_parameters": "attention parameters",
    "macs": "MACs",
    "step_ratio": "step time",
}
"""The costs on the first screen, by their column in cost.csv."""


class Answer(NamedTuple):
    """A question, its answer, and where the numbers of the answer stand."""

    question: str
    answer: str
    link: str


def answers(verdicts: Verdicts) -> list[Answer]:
    """Those of the four questions that the study can answer."""
    if verdicts.silent:
        return []
    found = []
    if verdicts.few:
        found.append(Answer("What was found?", _found(verdicts), "words"))
    else:
        if verdicts.asks_for_query:
            found.append(Answer("Is the query needed?", _needed(verdicts), "average"))
        found.append(Answer("Which sharing is safe?", _safe(verdicts), "choice"))
        if saved := _saved(verdicts):
            found.append(Answer("What does it save?", saved, "cost"))
    return [*found, Answer("How sure is that?", _sure(verdicts), "open" if verdicts.open else "method")]


def _found(verdicts: Verdicts) -> str:
    words = [cell.word for cell in verdicts.cells.values() if cell.n]
    counts = listing(f"{words.count(verdict)} {verdict}" for verdict in dict.fromkeys(words))
    return f"**{count(len(words), 'comparison')} with {name(verdicts.baseline)}:** {counts}."


def _needed(verdicts: Verdicts) -> str:
    without = verdicts.without_query
    by_word = {verdict: [v for v in without if verdicts.word(v) == verdict] for verdict in ("worse", *SAFE)}
    worse = by_word["worse"]
    if worse == without:
        all_of_them = "Both" if len(worse) == 2 else f"All {word(len(worse))}"
        who = f"{all_of_them} variants without one are" if worse[1:] else f"{name(worse[0])} has none and is"
        where = f"{', each' if worse[1:] else ','} on at least {_least(verdicts, worse)} tasks"
        return f"**Yes, at this training length.** {who} worse on average, by {_losses(verdicts, worse)}{where}."
    known = [
        f"{word(len(variants)) if len(variants) > NAMED else listing(map(name, variants))} {be(variants)} {verdict}"
        " on average"
        for verdict, variants in by_word.items()
        if variants
    ]
    if not known:
        return "**Not decided.** No variant without one is worse on average for certain, and none is shown to be safe."
    safe = any(by_word[verdict] for verdict in SAFE)
    head = "Not by every variant, at this training length" if safe else "Not decided for all"
    still = [variant for variant in without if verdicts.word(variant) in OPEN and verdicts.word(variant) not in SAFE]
    known += [f"{word(len(still))} {be(still)} open"] if still else []
    return f"**{head}.** Of {count(len(without), 'variant')} without one, {listing(known)}."


def _losses(verdicts: Verdicts, variants: list[str]) -> str:
    losses = [f"{-verdicts.overall[variant]['mean']:.1f}" for variant in variants]
    low, high = min(losses, key=float), max(losses, key=float)
    return f"{low} margins" if low == high else f"{low} to {high} margins"


def _least(verdicts: Verdicts, variants: list[str]) -> str:
    row = min((verdicts.overall[variant] for variant in variants), key=lambda row: row["worse_at_least"])
    return f"{row['worse_at_least']} of {row['tasks']}"


def _safe(verdicts: Verdicts) -> str:
    if not verdicts.safe:
        return "**None that is shown.** No variant is equivalent, not worse or better on average."
    best, *others = verdicts.safe
    row = verdicts.overall[best]
    inside = ", inside ±1" if row["verdict"] == "equivalent" else ""
    what = f"{verdicts.shares[best]} ({name(best)})" if verdicts.shares[best] else name(best)
    mean, ends = signed(row["mean"], 2), interval(row["low"], row["high"], 2)
    text = f"**{capital(what)}, on average:** {mean} margins {ends}{inside}."
    worse = verdicts.of(best, "worse")
    where = listing(map(sentence_case, worse)) if len(worse) <= NAMED else count(len(worse), "task")
    text += f" It is worse on {where}" if worse else " It is worse on no task for certain"
    still = len(verdicts.of(best, *OPEN))
    text += f"; {count(still, 'task is', 'tasks are')} open." if still else "."
    if not others:
        return text
    words = {verdicts.word(variant) for variant in others}
    said = f"{words.pop()} on average" if len(words) == 1 else "safe"
    return f"{text} {capital(named(others, verdicts))} {be(others)} {said}, too."


def _saved(verdicts: Verdicts) -> str:
    """What the best safe variant saves, and a variant without a query that saves as many parameters, but no cache."""
    if not verdicts.safe:
        return ""
    best = verdicts.safe[0]
    saved = _savings(verdicts.results, best)
    parts = [
        ("half the " if round(saved[cost]) == -50 else f"{-saved[cost]:.0f}{SPACE}% of the ") + words
        for cost, words in COSTS.items()
        if saved.get(cost, 0) <= -SAME
    ]
    if not parts:
        return ""
    first, *others = parts
    text = f"**{name(best)}: {first}**" + (f", {listing(others)}." if others else ".")
    return text + _without_cache(verdicts, saved)


def _without_cache(verdicts: Verdicts, saved: dict[str, float]) -> str:
    """A variant that is worse and saves as many parameters, but no cache."""
    parameters, cache = "attention_parameters", "cache_bytes_per_token"
    found = {variant: _savings(verdicts.results, variant) for variant in verdicts.averaging("worse")}
    alike = {
        abs(other[parameters] - saved[parameters]): variant
        for variant, other in reversed(found.items())
        if {parameters, cache} <= other.keys() & saved.keys() and abs(other[cache]) < SAME
    }
    if not alike or min(alike) >= SAME or saved[cache] > -SAME:
        return ""
    return f" {name(alike[min(alike)])} saves as many parameters, no cache."


def _savings(results: Results, variant: str) -> dict[str, float]:
    """By cost, the median change of a variant in per cent."""
    rows = results.savings[results.savings["variant"] == variant]
    return dict(zip(rows["cost"], rows["median"], strict=True))


def _sure(verdicts: Verdicts) -> str:
    still, below = len(verdicts.open), len(verdicts.below)
    if verdicts.few:
        head = f"{still} of {count(below, 'comparison')} open" if still else "everything is decided"
    else:
        tasks = "most single tasks are not" if 2 * still > below else "some single tasks are not"
        head = f"{_averages(verdicts)} decided; {tasks if still else 'so is every task'}"
    text = f"**{capital(head)}.** {verdicts.pairs_said} paired seeds"
    text += "." if verdicts.few or not still else f": {still} of {below} comparisons below the ceiling are open."
    if verdicts.pairs <= FEW_SEEDS:
        return f"{text} So few seeds decide only very large differences."
    return text + _shrunk(verdicts)


def _averages(verdicts: Verdicts) -> str:
    decided = [variant for variant in verdicts.overall if verdicts.word(variant) not in ("", *OPEN)]
    of = len(verdicts.overall)
    if of == 1:
        return "the average is" if decided else "the average is not"
    return "all averages are" if len(decided) == of else f"{len(decided) or 'none'} of {of} averages {be(decided)}"


def _shrunk(verdicts: Verdicts) -> str:
    """By how much the gaps of the variants that are worse shrank, if all of them did."""
    rows = verdicts.results.gap_averages
    gaps = rows.set_index(["variant", "share"])["margins"].to_dict()
    ratios = [
        gaps[variant, 1.0] / gaps[variant, 0.5]
        for variant in verdicts.averaging("worse")
        if gaps.get((variant, 0.5), 0) < 0 and (variant, 1.0) in gaps
    ]
    if not ratios or max(ratios) >= SHRUNK:
        return ""
    return f" Gaps shrank by {100 * (1 - median(ratios)):.0f}{SPACE}% in the second half of training."
