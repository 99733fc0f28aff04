"""Sentences on what runs say besides their differences: tuning, the gap over training, the error of the test set."""

from collections.abc import Iterable

import pandas as pd

from kvformer.analysis.quantities import quantity
from kvformer.analysis.results import TOO_FEW, Results
from kvformer.analysis.study import Study
from kvformer.reporting.wording import listing

NAMED = 5
"""Up to this many tasks are named, more are counted."""
COURSES = {"level": "level with {baseline} at the end", "only slower": "only slower", "still behind": "still behind"}


def on_tuning(rows: pd.DataFrame, study: Study) -> list[str]:
    """A sentence for each variant that was not tuned, or whose best value ends its grid, or that lost trials.

    rows: of the table `tuning`.
    """
    sentences = []
    for (task, setting, variant), trials in rows.groupby(["task", "setting", "variant"], sort=False):
        where = study.label(str(task)) + (f" ({setting})" if setting != "default" else "")
        chosen = trials[trials["chosen"]]
        lost = trials["expected"].sum() - trials["runs"].sum()
        if chosen.empty:
            sentences.append(
                f"On {where}, no tuning run of {variant} finished: it was trained at the untuned values, and its "
                "verdict there is provisional."
            )
            continue
        values, edge = chosen["values"].iloc[0], chosen["edge"].iloc[0]
        if edge:
            sentences.append(
                f"On {where}, the best values of {variant} ({values}) end the tuning grid ({edge}): better ones may "
                "lie beyond, and its verdict there is provisional."
            )
        if lost:
            sentences.append(
                f"On {where}, {lost} of {trials['expected'].sum()} tuning runs of {variant} did not finish; values "
                "whose runs all finished were preferred."
            )
    return sentences


def on_training(results: Results) -> list[str]:
    """No query, or only slower? A sentence on the study, then one for each variant that is slower or behind."""
    pace, label = results.pace, results.study.label
    judged = pace[pace["verdict"].isin([*COURSES, "unclear"])]
    if pace.empty:
        return []
    sentences = [_overview(judged, results)] if len(judged) else []
    for variant in results.study.variants:
        own = judged[judged["variant"] == variant]
        parts = []
        for verdict in ("only slower", "still behind"):
            rows = own[own["verdict"] == verdict]
            if len(rows):
                parts.append(f"{verdict} on {_names([label(task) for task in rows['task']])}")
        if parts:
            sentences.append(f"Over training, {variant} is {', and '.join(parts)}.")
    for verdict, reason in ((TOO_FEW, "too few evaluations"), ("no margin", "no margin was fixed")):
        if len(tasks := pace.loc[pace["verdict"] == verdict, "task"].unique()):
            sentences.append(f"Whether a variant is only slower is not said of {_names(map(label, tasks))}: {reason}.")
    return sentences


def _overview(judged: pd.DataFrame, results: Results) -> str:
    counts = judged["verdict"].value_counts()
    words = [
        f"{counts[verdict]} {COURSES.get(verdict, verdict)}" for verdict in [*COURSES, "unclear"] if verdict in counts
    ]
    text = f"Over training, by the validation metric, of {len(judged)} comparisons: {', '.join(words)}."
    text = text.format(baseline=results.study.baseline)
    falling = judged.loc[judged["decays"], "task"].unique()
    if not len(falling):
        return text
    where = (
        _names(map(results.study.label, falling)) if len(falling) < judged["task"].nunique() else "all of these tasks"
    )
    return f"{text} The learning rate falls on {where}: a gap that is flat at the end does not predict a longer run."


def on_sampling(results: Results) -> list[str]:
    """How much of the uncertainty is the finite test set's: a sentence, and one on tasks for which it is not known."""
    table, study = results.sampling, results.study
    if table.empty:
        return []
    shares = 100 * table["test_share"].dropna()
    sentences = []
    if len(shares):
        low, middle, high = (f"{shares.quantile(q):.0f}" for q in (0, 0.5, 1))
        text = f"The finite test set makes up {middle} % of the variance of a difference (median; {low} to {high} %)."
        common = table[(table["test_sets"] != "own") & table["wider"].notna()]
        if len(common):
            tasks = _names(study.label(task) for task in common["task"].unique())
            text += (
                f" On {tasks} all seeds share their test examples, so that part of it is not in the paired intervals: "
                f"with it they are {common['wider'].median():.2f} times as wide (median; at most "
                f"{common['wider'].max():.2f} times)."
            )
        sentences.append(text)
    unknown = results.paired[~results.paired["task"].isin(table["task"]) & (results.paired["n"] > 0)]
    by_accuracy = unknown["metric"].map(lambda metric: quantity(metric).name == "accuracy").astype(bool)
    for rows, reason in (
        (unknown[~by_accuracy], "they are not judged by accuracy"),
        (unknown[by_accuracy], "their runs did not keep which examples they got right"),
    ):
        if len(rows):
            tasks = _names(study.label(task) for task in rows["task"].unique())
            sentences.append(f"The error of the test set is not known for {tasks}: {reason}.")
    return sentences


def _names(names: Iterable[str]) -> str:
    """`A, B and C`; the number of tasks where there are many."""
    known = list(names)
    return f"{len(known)} tasks" if len(known) > NAMED else listing(known)
