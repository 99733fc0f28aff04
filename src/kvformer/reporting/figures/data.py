"""A study's files, read once, in the form that the figures need."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from kvformer.analysis.comparisons import paired_differences
from kvformer.analysis.frames import KEYS, by_setting, load_curves, load_runs, scores, usable
from kvformer.analysis.nuisance import select
from kvformer.analysis.quantities import axis_label, quantity
from kvformer.analysis.statistics import Estimate, estimate
from kvformer.analysis.study import read_study
from kvformer.errors import KvformerError
from kvformer.reporting.style import VariantStyle, variant_styles

Maps = dict[str, dict[str, np.ndarray]]
"""By variant: the arrays of attention.npz by name."""


@dataclass(frozen=True)
class Task:
    """A task as study.json describes it, with its settings in the order of the study."""

    name: str
    label: str
    family: str
    metric: str
    goal: str
    chance: float | None
    settings: tuple[str, ...]

    @property
    def scale(self) -> float:
        """Factor from stored to shown values of the metric: fractions are shown as per cent."""
        return quantity(self.metric).scale

    @property
    def axis(self) -> str:
        """Axis label of the metric, with its unit."""
        return axis_label(self.metric)


def _is_one_of(frame: pd.DataFrame, runs: pd.DataFrame) -> bool | np.ndarray:
    """Which rows of `frame` belong to one of `runs`."""
    return pd.MultiIndex.from_frame(frame[KEYS]).isin(pd.MultiIndex.from_frame(runs[KEYS])) if len(runs) else False


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in ("inputs", "logits", "weights")}
    except Exception as error:  # whatever a damaged archive provokes
        raise KvformerError(
            f"{path}: not an archive of the arrays inputs, logits and weights ({error}); delete it, the workflow then "
            "trains the run again"
        ) from None


class FigureData:
    """Everything that figures are drawn from. `results` is the folder results/<name> of a collected study."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.study = read_study(results)
        self.runs = load_runs(results)
        self.expected = scores(self.runs)
        # Where a grid is there for tuning only, each variant counts with the point that suits it best.
        self.scores, self.choices = select(self.runs, self.study)
        self.curves = load_curves(results)
        diverged = self.expected[self.expected["status"] == "diverged"]
        self.curves["diverged"] = _is_one_of(self.curves, diverged)
        self.variants: list[str] = self.study.variants
        self.labels: dict[str, str] = {
            variant["name"]: variant.get("label") or variant["name"] for variant in self.study.content["variants"]
        }
        self.styles: dict[str, VariantStyle] = variant_styles(self.variants)
        self._curves: dict[tuple[str, str], pd.DataFrame] = {
            (str(task), str(metric)): frame
            for (task, metric), frame in self.curves.groupby(["task", "metric"], sort=False)
        }

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The tasks by name, in the order of the study; judged by the metric (with its split) that their runs name."""
        judged = usable(self.expected).drop_duplicates("task").set_index("task")["metric"]
        return {
            name: Task(
                name=name,
                label=self.study.label(name),
                family=task["family"],
                metric=str(judged.get(name, task["metric"])),
                goal=task["goal"],
                chance=task.get("chance"),
                settings=tuple(self.study.settings(name)),
            )
            for name, task in self.study.tasks.items()
        }

    @cached_property
    def families(self) -> dict[str, list[Task]]:
        """The tasks of each family, in the order of the study."""
        families: dict[str, list[Task]] = {}
        for task in self.tasks.values():
            families.setdefault(task.family, []).append(task)
        return families

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The paired differences to the baseline, one row a task and variant."""
        return paired_differences(self.scores, self.study)

    def counted(self, task: Task, variant: str) -> tuple[str, ...]:
        """The settings that a variant is judged by: all of the task's grid, or the chosen points of a tuning grid."""
        if self.choices.empty or task.name not in set(self.choices["task"]):
            return task.settings
        own = self.choices[(self.choices["task"] == task.name) & (self.choices["variant"] == variant)]
        return tuple(own["chosen"])

    def finished(self, task: Task, variant: str) -> pd.DataFrame:
        """The rows of `scores` of the finished runs of a task and variant."""
        frame = usable(self.scores)
        return frame[(frame["task"] == task.name) & (frame["variant"] == variant)]

    def estimate(self, task: Task, variant: str) -> Estimate:
        """Mean over settings of the task's metric, with its 95 % interval over seeds, in shown units."""
        groups = [task.scale * values for values in by_setting(self.finished(task, variant)).values()]
        low, high = quantity(task.metric).bounds
        return estimate(groups, (task.scale * low, task.scale * high))

    def seed_means(self, task: Task, variant: str) -> np.ndarray:
        """The task's metric by seed in shown units, averaged over settings; only seeds that finished every setting."""
        by_seed = self.finished(task, variant).groupby("seed")["value"]
        means: pd.Series = by_seed.mean()[by_seed.count() == len(self.counted(task, variant))]
        return task.scale * means.to_numpy()

    def curve(self, task: Task, metric: str) -> pd.DataFrame:
        """The points of one metric of a task, with the columns of curves.csv.gz; empty if it was not recorded."""
        return self._curves.get((task.name, metric), self.curves.iloc[:0])

    def curve_metrics(self, task: Task) -> list[str]:
        """The metric keys recorded over time for a task, in the order of their names."""
        return sorted(metric for name, metric in self._curves if name == task.name)

    def notes(self, tasks: list[Task]) -> str:
        """A sentence on the runs of these tasks that are not in the means; empty if all are."""
        frame = self.expected[self.expected["task"].isin([task.name for task in tasks])]
        parts = []
        lost = frame[frame["status"] != "finished"].groupby(["task", "variant", "status"], sort=False)
        for (task, variant, status), group in lost:
            label = f"{self.study.label(str(task))}, " if len(tasks) > 1 else ""
            total = int(((frame["task"] == task) & (frame["variant"] == variant)).sum())
            parts.append(f"{label}{self.labels[str(variant)]}: {len(group)} of {total} runs {status}")
        return "Not in the means: " + "; ".join(parts) + "." if parts else ""

    def attention(self, task: Task) -> Maps:
        """Per variant, the arrays of attention.npz of its first finished run (by setting, then seed) that has them.

        Raises:
            KvformerError: an attention.npz is damaged or lacks an array.
        """
        finished = set(usable(self.expected)["path"])
        maps: Maps = {}
        for run in self.study.runs:
            if run["task"] != task.name or run["variant"] in maps:
                continue
            if run["path"] not in finished or run["setting"] not in self.counted(task, run["variant"]):
                continue
            path = self.results / run["path"] / "attention.npz"
            if path.exists():
                maps[run["variant"]] = _load_arrays(path)
        return {variant: maps[variant] for variant in self.variants if variant in maps}
