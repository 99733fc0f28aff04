"""The section on single tasks: a forest per task, and how much the average depends on the choice of tasks."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import Any

from kvformer.reporting.plots import Axis, Range, Tick
from kvformer.reporting.verdicts import FAMILIES, Cell, Task, Verdicts
from kvformer.reporting.wording import SPACE, interval, listing, signed


@dataclass(frozen=True)
class Forest:
    """The differences on a task. rows: each variant and its plot. solved: the solved runs of each variant of a list
    task, where some are not."""

    task: Task
    unit: str
    ticks: list[Tick]
    rows: list[tuple[Cell, Range]]
    solved: str


def forests(verdicts: Verdicts) -> dict[str, Forest]:
    """A forest of every task that not all variants solve, each with an axis of its own."""
    return {name: _forest(verdicts, task) for name, task in verdicts.tasks.items() if not _at_ceiling(verdicts, task)}


def _at_ceiling(verdicts: Verdicts, task: Task) -> bool:
    return all(cell.solved for cell in _cells(verdicts, task))


def _cells(verdicts: Verdicts, task: Task) -> list[Cell]:
    keys = ((task.name, variant) for variant in verdicts.variants)
    return [verdicts.cells[key] for key in keys if key in verdicts.cells]


def _forest(verdicts: Verdicts, task: Task) -> Forest:
    cells = _cells(verdicts, task)
    drawn = [cell for cell in cells if cell.n and not cell.solved]
    ends = [value for cell in drawn for value in (cell.mean, cell.low, cell.high, *cell.dots)]
    margin = cells[0].margin
    axis = Axis.around(ends, 1e-9 if isnan(margin) else 1.3 * margin, 0.03)
    rows = [
        (cell, axis.row(cell.margin, cell.mean, cell.low, cell.high, cell.dots, drawn=cell in drawn)) for cell in cells
    ]
    return Forest(task, cells[0].what.step, axis.ticks(4), rows, _solved(verdicts, task) if task.solvable else "")


def _solved(verdicts: Verdicts, task: Task) -> str:
    """`qkv 2/10, kv 0/10`; empty where every variant solves all of its runs."""
    table = verdicts.results.success
    rows = table[table["task"] == task.name].groupby("variant")[["successes", "n"]].sum()
    if (rows["successes"] == rows["n"]).all():
        return ""
    found = [variant for variant in (verdicts.baseline, *verdicts.variants) if variant in rows.index]
    return ", ".join(f"{variant}{SPACE}{rows['successes'][variant]:.0f}/{rows['n'][variant]:.0f}" for variant in found)


def ceilings(verdicts: Verdicts, tasks: Iterable[Task]) -> list[tuple[str, list[str]]]:
    """One sentence on those of the tasks that every variant solves, if there are any, and their names."""
    full = [task for task in tasks if _at_ceiling(verdicts, task)]
    if not full:
        return []
    cells = [cell for task in full for cell in _cells(verdicts, task)]
    bound = max(cell.failure for cell in cells)
    one = len(full) == 1
    words = f"{listing(task.label for task in full)}: every variant solves {'it' if one else 'them'} in all seeds."
    words += f" {'It tells' if one else 'They tell'} nothing about differences at this size"
    known = (
        "." if isnan(bound) else f", and a failure rate up to {100 * bound:.0f}{SPACE}% of seeds cannot be excluded."
    )
    return [(words + known, [task.name for task in full])]


def choices(verdicts: Verdicts) -> list[dict[str, Any]]:
    """The average of each variant under other choices of tasks."""
    rows = []
    for variant in verdicts.variants:
        if row := verdicts.overall.get(variant):
            left_out = [signed(row[f"leave_out_{end}"], 2) for end in ("low", "high")]
            texts = [
                f"{signed(row['mean'], 2)} {interval(row['low'], row['high'], 2)}".strip(),
                f"{signed(row['mean_unsolved'], 2)} {interval(row['low_unsolved'], row['high_unsolved'], 2)}".strip(),
                interval(row["task_low"], row["task_high"], 2),
                " to ".join(filter(None, left_out)),
                f"{row['worse']} / {row['equal']} / {row['better']}",
                f"{row['worse_at_least']} of {row['tasks']}",
            ]
            rows.append({"variant": variant, "texts": [text or "–" for text in texts]})
    return rows


def context(verdicts: Verdicts) -> dict[str, Any]:
    """What the templates need."""
    longest = max(map(len, verdicts.variants), default=0)
    return {
        "forests": forests(verdicts),
        "ceilings": partial(ceilings, verdicts),
        "family_titles": FAMILIES,
        "choices": choices(verdicts),
        "names_width": max(62, min(140, round(7.9 * longest) + 8)),
    }
