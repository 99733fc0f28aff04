"""Tuning before comparing: the values of each variant that its trials choose, by validation alone.

The trials (`config.tuning`) are collected like any other study, in the folder `tuning` of the study's folder.
"""

from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kvformer.analysis.frames import KEYS, load_runs, scores, usable
from kvformer.analysis.quantities import quantity, short_key
from kvformer.analysis.study import Study, read_study
from kvformer.errors import KvformerError
from kvformer.records.run import Goal
from kvformer.records.study import SettingEntry, TaskEntry
from kvformer.records.tuning import FOLDER, Trial, TunedCell, TuningChoice, choice_file

LOSS = "validation/loss"


class Criterion(NamedTuple):
    """The validation metric that chooses, and whether more or less of it is better."""

    metric: str
    goal: Goal


def choose(results: Path) -> TuningChoice:
    """The choices for the study in the folder `results`, from its collected trials.

    Raises:
        KvformerError: the trials have not been collected, or not since they were planned again, or their files are
            malformed.
    """
    folder = results / FOLDER
    study, runs = read_study(folder), load_runs(folder)
    collected = pd.MultiIndex.from_frame(runs[KEYS])
    for run in study.runs:
        if tuple(getattr(run, key) for key in KEYS) not in collected:
            raise KvformerError(f"{folder / 'runs.csv'}: has no row of {run.path}; run `kvformer collect {folder}`")
    cells = []
    for task in study.tasks:
        own = runs[runs["task"] == task]
        criterion = _criterion(own, study.tasks[task])
        for setting, tried in _tried(study, task).items():
            for variant in (variant for variant in study.variants if variant in set(own["variant"])):
                trials = list(_trials(own[own["variant"] == variant], tried, criterion))
                chosen = _best(trials, criterion.goal)
                cells.append(
                    TunedCell(
                        task=task,
                        setting=setting,
                        variant=variant,
                        metric=criterion.metric,
                        goal=criterion.goal,
                        chosen=chosen,
                        edges=_edges(chosen, trials),
                        trials=trials,
                    )
                )
    return TuningChoice(cells=cells)


def _criterion(runs: pd.DataFrame, task: TaskEntry) -> Criterion:
    """The quantity that a task is judged by, on the validation split; the validation loss where no run has it."""
    metric = f"validation/{quantity(task.metric).name}"
    if len(usable(runs[runs["metric"] == metric])):
        return Criterion(metric, task.goal)
    return Criterion(LOSS, "min")


def _tried(study: Study, task: str) -> dict[str, list[SettingEntry]]:
    """The trials of a task by the setting in whose place they are tried."""
    tried: dict[str, list[SettingEntry]] = {}
    for (name, _), entry in study.sections.items():
        if name == task:
            tried.setdefault(entry.tried_for or "", []).append(entry)
    return tried


def _trials(runs: pd.DataFrame, tried: list[SettingEntry], criterion: Criterion) -> Iterator[Trial]:
    """The trials of a variant, in the order of the grid."""
    expected = scores(runs).groupby("setting").size()
    means, sizes, losses = (
        usable(runs[runs["metric"] == metric]).groupby("setting")["value"].agg(what)
        for metric, what in ((criterion.metric, "mean"), (criterion.metric, "size"), (LOSS, "mean"))
    )
    for entry in tried:
        yield Trial(
            values=entry.tried or {},
            mean=means.get(entry.setting),
            loss=losses.get(entry.setting),
            runs=int(sizes.get(entry.setting, 0)),
            expected=int(expected[entry.setting]),
        )


def _best(trials: list[Trial], goal: Goal) -> dict[str, Any]:
    """The values with the best mean, of several the one with the least loss; {} where no run finished. A trial with a
    lost run is chosen only where none is complete."""
    found = [trial for trial in trials if trial.mean is not None]
    eligible = [trial for trial in found if trial.runs == trial.expected] or found
    sign = -1 if goal == "max" else 1

    def rank(trial: Trial) -> tuple[float, float]:
        return sign * (trial.mean or 0.0), inf if trial.loss is None else trial.loss

    return min(eligible, key=rank).values if eligible else {}


def _edges(chosen: Mapping[str, Any], trials: list[Trial]) -> list[str]:
    edges = []
    for key, value in chosen.items():
        grid = {trial.values[key] for trial in trials}
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and len(grid) > 1 and value in (min(grid), max(grid)):
            edges.append(f"{short_key(key)} at its {'lowest' if value == min(grid) else 'highest'}")
    return edges


def tuning_table(results: Path) -> list[dict[str, Any]]:
    """One row per trial of the study in the folder `results`; none where nothing was tuned.

    Raises:
        DataError: `tuning.json` cannot be read.
    """
    if not choice_file(results).exists():
        return []
    return [
        {"task": cell.task, "setting": cell.setting, "variant": cell.variant, "metric": cell.metric}
        | {"values": values_text(trial.values), "validation": trial.mean, "runs": trial.runs}
        | {"expected": trial.expected, "chosen": trial.values == cell.chosen}
        | {"edge": "; ".join(cell.edges) if trial.values == cell.chosen else ""}
        for cell in TuningChoice.load(choice_file(results)).cells
        for trial in cell.trials
    ]


def values_text(values: Mapping[str, Any]) -> str:
    """`learning rate 0.001, dim 64` for values by dotted key."""
    return ", ".join(f"{short_key(key)} {value}" for key, value in values.items())
