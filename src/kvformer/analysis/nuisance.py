"""Nuisance grids: each variant at the setting that suits it best, chosen by validation alone.

A task may mark keys of its grid (a learning rate, say) as nuisance. Is a variant worse, or only tuned for another one?
To tell, each variant is compared at its own best nuisance values, and also at those that are best for the baseline.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from kvformer.analysis.decisions import paired_differences
from kvformer.analysis.frames import CELL, at_judged_settings, scores, usable
from kvformer.analysis.quantities import quantity
from kvformer.analysis.study import Study

NOT_TUNED = {"values": "", "edge": ""}


def select(runs: pd.DataFrame, study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores with every nuisance grid reduced to each variant's own best point, and the choices made.

    Settings of such tasks are renamed after what is left of their grid (`default` where nothing is). Tasks without a
    nuisance grid pass unchanged. A point with a lost seed is chosen only where no complete point exists.

    Returns:
        scores; and the choices: task, setting, variant, chosen (the original setting), fixed (the one that is best for
        the baseline), values, validation (mean), runs, budget (runs that the variant could be tuned on), equal_budget,
        edge (keys whose chosen value ends the grid).
    """
    expected = scores(runs)
    choices = pd.DataFrame([row for task in study.tasks if study.nuisance(task) for row in _choices(task, runs, study)])
    if not choices.empty:
        budgets = choices.groupby(["task", "setting"])["budget"]
        choices["equal_budget"] = budgets.transform("min") == budgets.transform("max")
    return at_judged_settings(expected, choices), choices


def comparison(expected: pd.DataFrame, choices: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The choices, with the differences to the baseline at each variant's own best point and at the baseline's.

    expected: of `frames.scores`. The columns of the differences end in `_own` and `_fixed`; the baseline has none.
    """
    if choices.empty:
        return choices
    columns = ["n", "difference", "low", "high", "p_holm", "verdict"]
    of_tasks, table = expected[expected["task"].isin(choices["task"])], choices
    for suffix, point in (("_own", "chosen"), ("_fixed", "fixed")):
        found = paired_differences(at_judged_settings(of_tasks, choices, point), study, by_setting=True)
        if not found.empty:
            table = table.merge(found.set_index(CELL)[columns].add_suffix(suffix), how="left", on=CELL)
    return table


def _choices(task: str, runs: pd.DataFrame, study: Study) -> Iterator[dict[str, Any]]:
    """The choice of each variant in each grid of nuisance keys, the baseline's first."""
    own = runs[runs["task"] == task]
    validation = usable(own[own["metric"] == f"validation/{quantity(study.tasks[task].metric).name}"])
    points = scores(own).groupby(["variant", "setting"]).size().rename("expected").to_frame()
    points = points.join(validation.groupby(["variant", "setting"])["value"].agg(["mean", "size"]))
    for name, candidates in _groups(study, task).items():
        fixed = ""
        for variant in study.variants:
            found = points.reindex([(variant, setting) for setting in candidates]).droplevel("variant")
            if found["expected"].isna().all():
                continue
            choice = _choose(found, study.tasks[task].goal)
            fixed = choice["chosen"] if variant == study.baseline else fixed
            tuned = _edges(study, task, candidates, choice["chosen"]) if choice["runs"] else NOT_TUNED
            yield (
                {"task": task, "setting": name, "variant": variant, "fixed": fixed or choice["chosen"]} | choice | tuned
            )


def _groups(study: Study, task: str) -> dict[str, list[str]]:
    """The settings of a task that differ in nuisance keys only, by a name made of the other keys."""
    groups: dict[str, list[str]] = {}
    for setting in study.settings(task):
        rest = {key: value for key, value in study.overrides[task, setting].items() if key not in study.nuisance(task)}
        groups.setdefault(values_text(rest) or "default", []).append(setting)
    return groups


def values_text(overrides: Mapping[str, Any]) -> str:
    """`learning_rate=0.001 dim=64` for grid values."""
    return " ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in overrides.items())


def _choose(points: pd.DataFrame, goal: str) -> dict[str, Any]:
    """The point with the best mean validation metric; the first one, with NaN, where nothing was validated.

    points: by setting the expected runs, and mean and size (number of runs) of the validation metric.
    """
    found = points.dropna()
    complete = found[found["size"] == found["expected"]]
    eligible = complete if len(complete) else found
    if eligible.empty:
        return {"chosen": points.index[0], "validation": np.nan, "runs": 0, "budget": 0}
    best = str(eligible["mean"].idxmax() if goal == "max" else eligible["mean"].idxmin())
    runs, budget = eligible["size"][best], found["size"].sum()
    return {"chosen": best, "validation": eligible["mean"][best], "runs": runs, "budget": budget}


def _edges(study: Study, task: str, candidates: list[str], chosen: str) -> dict[str, str]:
    values = {
        key: study.overrides[task, chosen][key] for key in study.nuisance(task) if key in study.overrides[task, chosen]
    }
    edges = []
    for key, value in values.items():
        grid = {study.overrides[task, setting][key] for setting in candidates}
        if isinstance(value, int | float) and len(grid) > 1 and value in (min(grid), max(grid)):
            edges.append(f"{key.rsplit('.', 1)[-1]} at its {'lowest' if value == min(grid) else 'highest'}")
    return {"values": values_text(values), "edge": "; ".join(edges)}
