"""The findings of a study in plain words: what a reader should know before looking at any table."""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from kvformer.analysis.quantities import Quantity, quantity, short_key
from kvformer.analysis.results import Results
from kvformer.analysis.study import ALL_SETTINGS, Study
from kvformer.analysis.verdicts import BOTH_SOLVE, MIXED, VERDICTS
from kvformer.reporting.cells import number, probability
from kvformer.reporting.headline import NOTHING, ONE_SEED
from kvformer.reporting.remarks import on_sampling, on_training, on_tuning
from kvformer.reporting.wording import count, listing, margin_of, signed, with_step


def findings(results: Results) -> list[str]:
    """Sentences on a study: the count of verdicts, each variant on average, each comparison, tuning, excluded runs."""
    study = results.study
    table = results.paired[results.paired["n"] > 0]
    sentences = [_overview(table, study.baseline)] if len(table) else [NOTHING]
    sentences += [_average(row, results) for row in results.overall.to_dict("records") if not pd.isna(row["low"])]
    sentences += [sentence(row, place(row, study), row["variant"], study.baseline) for row in table.to_dict("records")]
    sentences += [*on_training(results), *on_sampling(results)]
    sentences += on_tuning(results.tuning, study)
    sentences += [_not_tuned(task.name, keys, study) for task in study.tasks.values() if (keys := task.nuisance)]
    if len(results.incomplete):
        sentences.append(_excluded(results))
    return sentences


def place(row: Mapping[Hashable, Any], study: Study) -> str:
    """`reverse`, or `reverse (dim128)` where one setting of several is meant."""
    task, setting = str(row["task"]), str(row["setting"])
    plain = setting in (ALL_SETTINGS, "default") or len(study.settings(task)) == 1
    return study.label(task) if plain else f"{study.label(task)} ({setting})"


def sentence(row: Mapping[Hashable, Any], where: str, subject: str, reference: str) -> str:
    """One comparison (a row of `decisions.judge`) in words."""
    difference, low, high, n, verdict = (row[name] for name in ("difference", "low", "high", "n", "verdict"))
    what = quantity(row["metric"])
    identical = f"On {where}, {subject} and {reference} gave identical results in all {n} pairs"
    if verdict == BOTH_SOLVE:
        start = identical if row["error"] == 0 and difference == 0 else f"On {where}, {subject} and {reference}"
        possible = f"failure rates below {100 * row['failure_bound']:.0f} % possible"
        return (
            f"{start}{':' if start == identical else ''} both solve the task in all {n} seeds, which leaves {possible}."
        )
    if row["error"] == 0 and difference == 0:
        return f"{identical}."
    if pd.isna(low):
        return (
            f"On {where}, {subject} is {amount(abs(difference), what)} {_side(difference)} {reference}, "
            f"in {count(n, 'pair')} of runs: too few to say more."
        )
    interval = f"95 % interval {_signed(low, what)} to {_signed(high, what)}"
    if verdict in ("better", "worse"):
        pairs = row["favourable"] if verdict == "better" else row["unfavourable"]
        beside = (
            " The test decides; the interval, made for normal differences, includes zero." if low <= 0 <= high else ""
        )
        return (
            f"On {where}, {subject} is {amount(abs(difference), what)} {_side(difference)} {reference} "
            f"({interval}, {pairs} of {n} pairs, {_adjusted(row)}): {verdict}.{beside}"
        )
    found = f"{_with_unit(difference, what)} ({interval}"
    if verdict == "equivalent":
        return (
            f"On {where}, {subject} and {reference} are equivalent: a difference of {found}) inside the margin of "
            f"±{margin_of(row['margin'], what)}, which was fixed in advance."
        )
    found += f", {n} pairs, {_adjusted(row)})"
    if verdict == "not worse":
        return (
            f"On {where}, {subject} is not worse than {reference} by more than the margin of "
            f"{margin_of(row['margin'], what)}: {found}."
        )
    if verdict.startswith("leaning"):
        return (
            f"On {where}, {subject} leans {verdict.removeprefix('leaning ')} than {reference}: {found}. The interval "
            "excludes zero, the adjusted test does not decide."
        )
    return (
        f"On {where}, no difference between {subject} and {reference} was established: {found}. "
        "That does not prove equality."
    )


def _average(row: Mapping[Hashable, Any], results: Results) -> str:
    """A variant over all tasks (a row of `overall`) in words."""
    variant, verdict, baseline = str(row["variant"]), str(row["verdict"]), results.study.baseline
    own = results.paired[results.paired["variant"] == variant]
    places = {
        word: listing(map(results.study.label, own.loc[own["verdict"] == word, "task"])) for word in ("better", "worse")
    }
    if verdict == MIXED:
        return (
            f"{variant} is better than {baseline} on {places['better']} and worse on {places['worse']}: mixed, so an "
            "average would mislead."
        )
    relation = {
        "equivalent": f"{variant} and {baseline} are equivalent",
        BOTH_SOLVE: f"{variant} and {baseline} both solve the tasks",
        "undecided": f"no difference between {variant} and {baseline} was established",
    }.get(verdict, f"{variant} is {verdict} than {baseline}".replace("is leaning", "leans"))
    mean, low, high, unsolved = (signed(row[name], 2) for name in ("mean", "low", "high", "mean_unsolved"))
    solved = (own["verdict"] == BOTH_SOLVE).sum()
    parts = [f"{mean} margins (95 % interval {low} to {high}, {row['n']} seeds)"]
    parts += [f"{unsolved} without the tasks that both solve ({solved})"] if solved and unsolved else []
    parts += [f"worse on at least {row['worse_at_least']} of {row['tasks']}"] if verdict == "worse" else []
    text = f"On average over {row['n_tasks_counted']} tasks, {relation}: {'; '.join(parts)}"
    return f"{text}, but it is worse on {places['worse']}." if places["worse"] and verdict != "worse" else f"{text}."


def amount(value: float, what: Quantity) -> str:
    """A size with its unit: percentage points for accuracy, nats for a loss."""
    return with_step(_digits(what.scale * value), what)


def _digits(value: float) -> str:
    """Two decimals from 0.1 on and three below, without trailing zeros."""
    text = number(value, 2 if abs(value) >= 0.1 else 3)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _signed(value: float, what: Quantity) -> str:
    text = _digits(abs(what.scale * value))
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def _with_unit(value: float, what: Quantity) -> str:
    return f"{_signed(value, what)} {amount(abs(value), what).partition(' ')[2]}"


def _side(difference: float) -> str:
    return "above" if difference > 0 else "below"


def _adjusted(row: Mapping[Hashable, Any]) -> str:
    if row["error"] == 0:
        return "no spread between pairs"
    text = probability(row["p_holm"])
    return f"adjusted p {'< 0.001' if row['p_holm'] < 0.001 else f'= {text}'}"


def _overview(table: pd.DataFrame, baseline: str) -> str:
    counts = Counter(table["verdict"])
    if counts[""] == len(table):
        return ONE_SEED
    words = [f"{counts[word]} {word}" for word in VERDICTS if counts[word]]
    words += [f"{counts['']} with one seed"] if counts[""] else []
    return f"Of {count(len(table), 'comparison')} with {baseline}: {', '.join(words)}."


def _not_tuned(task: str, keys: list[str], study: Study) -> str:
    """On a study of version 1, which chose among the runs that it reported."""
    return (
        f"On {study.label(task)}, {' and '.join(map(short_key, keys))} was to be tuned on the runs that are reported. "
        "That is not done any more: every value counts as a setting of its own, and all settings are averaged."
    )


def _excluded(results: Results) -> str:
    lost = results.incomplete["status"]
    counts = Counter(lost.where(lost != "finished", "without a value"))
    words = ", ".join(f"{runs} {status}" for status, runs in sorted(counts.items()))
    return f"Excluded runs: {len(lost)} of {results.counts['runs'].sum()} ({words}). Incomplete pairs are left out."
