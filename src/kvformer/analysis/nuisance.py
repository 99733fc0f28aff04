"""Nuisance grids: each variant at the setting that suits it best, chosen by validation alone.

A task may mark keys of its grid (a learning rate, say) as nuisance. Is a variant worse, or only tuned for another one?
To tell, each variant is compared at its own best nuisance values, and also at those that are best for the baseline.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kvformer.analysis.comparisons import paired_differences
from kvformer.analysis.frames import scores, usable
from kvformer.analysis.quantities import quantity
from kvformer.analysis.study import Study

NOT_TUNED = {"values": "", "edge": ""}


def select(runs: pd.DataFrame, study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores with every nuisance grid reduced to each variant's own best point, and the choices made.

    Settings of such tasks are renamed after what is left of their grid (`default` where nothing is). Tasks without a
    nuisance grid pass unchanged. A point with a lost seed is chosen only where no complete point exists.

    Returns:
        scores; and the choices: task, setting, variant, chosen (the original setting), values, validation (mean), runs,
        budget (runs that the variant could be tuned on), equal_budget, edge (keys whose chosen value ends the grid).
    """
    return _reduce(runs, study, own=True)


def fixed(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The scores with every nuisance grid reduced to the point that is best for the baseline."""
    return _reduce(runs, study, own=False)[0]


def comparison(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The choices, with the differences to the baseline at each variant's own best point and at the baseline's.

    The columns of the differences end in `_own` and `_fixed`; the baseline's own rows have none.
    """
    tuned, choices = select(runs, study)
    if choices.empty:
        return choices
    columns = ["task", "setting", "variant", "n", "difference", "low", "high", "p_t_holm", "verdict"]
    for suffix, frame in (("_own", tuned), ("_fixed", fixed(runs, study))):
        frame = frame[frame["task"].isin(choices["task"])]
        found = paired_differences(frame, study, by_setting=True)
        if not found.empty:
            choices = choices.merge(
                found[columns].rename(columns={name: name + suffix for name in columns[3:]}), how="left", on=columns[:3]
            )
    return choices


def _reduce(runs: pd.DataFrame, study: Study, own: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = scores(runs)
    tuned_tasks = [task for task in study.tasks if study.nuisance(task)]
    kept = [frame[~frame["task"].isin(tuned_tasks)]]
    choices: list[dict[str, Any]] = []
    for task in tuned_tasks:
        of_task = frame[frame["task"] == task]
        validation = runs[
            (runs["task"] == task) & (runs["metric"] == f"validation/{quantity(study.tasks[task].metric).name}")
        ]
        for name, candidates in _groups(study, task).items():
            found = {
                variant: _choose(usable(validation), of_task, candidates, variant, study.tasks[task].goal)
                for variant in study.variants
                if ((of_task["variant"] == variant) & of_task["setting"].isin(candidates)).any()
            }
            for variant, choice in found.items():
                chosen = choice if own else found.get(study.baseline, choice)
                rows = of_task[(of_task["variant"] == variant) & (of_task["setting"] == chosen["chosen"])]
                kept.append(rows.assign(setting=name))
                choices.append({"task": task, "setting": name, "variant": variant, **choice})
                choices[-1] |= _edges(study, task, candidates, choice["chosen"]) if choice["runs"] else NOT_TUNED
    table = pd.DataFrame(choices)
    if not table.empty:
        budgets = table.groupby(["task", "setting"])["budget"]
        table["equal_budget"] = budgets.transform("min") == budgets.transform("max")
    return pd.concat(kept, ignore_index=True), table


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


def _choose(
    validation: pd.DataFrame, of_task: pd.DataFrame, candidates: list[str], variant: str, goal: str
) -> dict[str, Any]:
    """The candidate with the best mean validation metric; the first one, with NaN, where nothing was validated."""
    rows = validation[(validation["variant"] == variant) & validation["setting"].isin(candidates)]
    expected = of_task[(of_task["variant"] == variant)].groupby("setting").size()
    found = rows.groupby("setting")["value"].agg(["mean", "size"]).reindex(candidates).dropna()
    complete = found[found["size"] == expected.reindex(found.index)]
    eligible = complete if len(complete) else found
    if eligible.empty:
        return {"chosen": candidates[0], "validation": np.nan, "runs": 0, "budget": 0}
    place = int(eligible["mean"].argmax() if goal == "max" else eligible["mean"].argmin())
    return {
        "chosen": str(eligible.index[place]),
        "validation": float(eligible["mean"].iloc[place]),
        "runs": int(eligible["size"].iloc[place]),
        "budget": int(found["size"].sum()),
    }


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
