"""A study's results in the form that figures need."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kvformer.analysis.quantities import axis_label, quantity
from kvformer.analysis.results import Results
from kvformer.errors import KvformerError
from kvformer.records.run import RunFolder
from kvformer.reporting.style import VariantStyle, variant_styles

Maps = dict[str, dict[str, np.ndarray]]
"""By variant: the arrays of attention.npz by name."""


@dataclass(frozen=True)
class Task:
    """A task of the study, with its settings in the order of the study; `metric` has its split."""

    name: str
    label: str
    family: str
    metric: str
    goal: str
    chance: float | None
    settings: tuple[str, ...]

    @property
    def scale(self) -> float:
        """Factor from stored to shown values of the metric: fractions are shown in percent."""
        return quantity(self.metric).scale

    @property
    def axis(self) -> str:
        """Axis label of the metric, with its unit."""
        return axis_label(self.metric)


class Mean(NamedTuple):
    """A mean of n runs with its 95 % interval, in shown units; NaN where unknown."""

    mean: float
    low: float
    high: float
    n: int


NO_RUN = Mean(np.nan, np.nan, np.nan, 0)


class FigureData:
    """Everything that figures are drawn from. curves: those of `curve_means.csv.gz`."""

    def __init__(self, results: Results, curves: pd.DataFrame) -> None:
        self.results = results
        self.study = results.study
        self.variants = results.study.variants
        self.labels = results.study.labels
        self.styles: dict[str, VariantStyle] = variant_styles(self.variants)
        self._curves = {
            (str(task), str(metric)): frame for (task, metric), frame in curves.groupby(["task", "metric"], sort=False)
        }
        self._no_curve = curves.iloc[:0]
        self._means = {
            (row["task"], row["setting"] if frame is results.settings else "", row["variant"]): row
            for frame in (results.settings, results.summary)
            for row in frame.to_dict("records")
        }

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The tasks by name, in the order of the study."""
        judged = dict(self.results.tasks[["task", "metric"]].itertuples(index=False, name=None))
        found = {}
        for name, task in self.study.tasks.items():
            label, settings = self.study.label(name), tuple(self.study.settings(name))
            found[name] = Task(name, label, task.family, judged[name], task.goal, task.chance, settings)
        return found

    @cached_property
    def families(self) -> dict[str, list[Task]]:
        """The tasks of each family, in the order of the study."""
        return {family: [self.tasks[name] for name in names] for family, names in self.study.families.items()}

    def mean(self, task: Task, variant: str, setting: str = "") -> Mean:
        """The task's metric, at one setting or over all of them, in shown units."""
        row = self._means.get((task.name, setting, variant))
        if row is None:
            return NO_RUN
        mean, low, high = (task.scale * row[name] for name in ("mean", "low", "high"))
        return Mean(mean, low, high, int(row["n"]))

    def seed_means(self, task: Task, variant: str) -> np.ndarray:
        """The task's metric by seed in shown units, averaged over settings; only seeds that finished every setting."""
        seeds = self.results.seeds
        return task.scale * seeds.loc[(seeds["task"] == task.name) & (seeds["variant"] == variant), "value"].to_numpy()

    def curve(self, task: Task, metric: str, setting: str = "") -> pd.DataFrame:
        """The averaged curves of one metric, and the curves of diverged runs; empty if it was not recorded.

        setting: instead of the mean over all of them.
        """
        frame = self._curves.get((task.name, metric), self._no_curve)
        if setting:
            return frame[frame["setting"] == setting]
        return frame[(frame["setting"] == "") | (frame["seed"] != "")]

    def curve_metrics(self, task: Task) -> list[str]:
        """The metric keys recorded over time for a task, in the order of their names."""
        return sorted(metric for name, metric in self._curves if name == task.name)

    def notes(self, tasks: list[Task]) -> str:
        """A sentence on the runs of these tasks that are not in the means; empty if all are."""
        lost = self.results.incomplete
        lost = lost[lost["task"].isin([task.name for task in tasks]) & (lost["status"] != "finished")]
        parts = []
        for (task, variant, status), group in lost.groupby(["task", "variant", "status"], sort=False):
            label = f"{self.study.label(str(task))}, " if len(tasks) > 1 else ""
            total = sum(run.task == task and run.variant == variant for run in self.study.runs)
            parts.append(f"{label}{self.labels[str(variant)]}: {len(group)} of {total} runs {status}")
        return "Not in the means: " + "; ".join(parts) + "." if parts else ""

    def attention(self, task: Task) -> Maps:
        """Per variant, the arrays of attention.npz of its first finished run (by setting, then seed) that has them.

        Raises:
            KvformerError: an attention.npz is damaged or an array is missing.
        """
        lost = set(self.results.incomplete["path"])
        maps: Maps = {}
        for run in self.study.runs:
            if run.task != task.name or run.variant in maps or run.path in lost:
                continue
            path = RunFolder(self.results.folder / run.path).attention_file
            if path.exists():
                maps[run.variant] = _load_arrays(path)
        return {variant: maps[variant] for variant in self.variants if variant in maps}


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in ("inputs", "logits", "weights")}
    except Exception as error:  # a damaged archive can raise anything
        raise KvformerError(
            f"{path}: not an archive of the arrays inputs, logits and weights ({error}); delete it, the workflow then "
            "trains the run again"
        ) from None
