"""The committed results, as the words of the markers need them.

Everything comes at full precision from `results/reference` (runs.csv.xz, curves.csv.xz, cost.csv,
study.json, provenance.json, benchmarks/*.csv) and from `config/published.csv`.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kvformer.analysis import results as report
from kvformer.analysis.analyse import analyse
from kvformer.analysis.comparisons import Comparison, compared, is_solvable
from kvformer.analysis.cost import load_costs
from kvformer.analysis.decisions import describe, difference, judge, looks_of, paired_differences
from kvformer.analysis.frames import by_setting, load_curves, load_runs, scores, usable
from kvformer.analysis.overall import in_margins, overall
from kvformer.analysis.provenance import PUBLISHED
from kvformer.analysis.published import load_published
from kvformer.analysis.quantities import SOLVED, quantity
from kvformer.analysis.statistics import by_seed, estimate, spreads
from kvformer.analysis.study import Study, read_study
from kvformer.analysis.verdicts import OPEN
from tools.numbers.values import UNITS, Difference, Mean, Unit

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"
STUDIES = {
    "reference": "Is it the query that is needed?",
    "repairs": "What can replace the query?",
    "controls": "Why does `kv_pos` help?",
    "scaling": "At which scale?",
    "acceptance": "Do the published numbers come out?",
    "numbers": "The same for numbers, on twenty seeds",
    "images": "The same for MNIST and Fashion-MNIST, on five seeds",
    "successor_n16": "The same for the successor's lists",
    "successor_n64": "The successor's lists at n 64",
    "oddities": "Which oddities of the published protocol matter?",
    "default": "What `make run` gives",
}
"""The committed studies, in the order of the documents, and what each one asks."""


class Side(NamedTuple):
    """One side of a comparison. An empty setting means all settings of the task."""

    variant: str
    setting: str = ""


def _difference(row: Mapping[Any, Any]) -> Difference:
    values = (float(row["difference"]), float(row["low"]), float(row["high"]), int(row["n"]), int(row["favourable"]))
    return Difference(unit_of(row["metric"]), *values, float(row.get("p_holm", "nan")), str(row.get("verdict", "")))


def unit_of(metric: str) -> Unit:
    """How a metric such as test/accuracy is printed."""
    return UNITS[quantity(metric).name]


class Results:
    """One committed study."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study: Study = read_study(folder)
        self.runs = load_runs(folder)
        self.scores = scores(self.runs)

    @property
    def finished(self) -> int:
        """Runs with a result."""
        return len(usable(self.scores))

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Every recorded point: task, setting, variant, seed, metric, step, value."""
        return load_curves(self.folder)

    @cached_property
    def costs(self) -> pd.DataFrame:
        """What each variant costs per task and setting; empty where it was not measured."""
        return load_costs(self.folder)

    @cached_property
    def provenance(self) -> list[dict[str, Any]]:
        """What the runs recorded about code and machine, once for all runs that say the same."""
        records: list[dict[str, Any]] = json.loads((self.folder / "provenance.json").read_text())["records"]
        return records

    def values(self, task: str, side: Side, metric: str = "") -> dict[str, "pd.Series[float]"]:
        """Per setting the values by seed, of the primary metric or of another one."""
        frame = self.runs[self.runs["metric"] == metric] if metric else self.scores
        mine = frame[(frame["task"] == task) & (frame["variant"] == side.variant)]
        if side.setting:
            mine = mine[mine["setting"] == side.setting]
        if mine.empty:
            raise ValueError(f"{self.study.name} has no run of {' '.join(filter(None, (task, *side, metric)))}")
        return by_setting(usable(mine))

    def mean(self, task: str, side: Side) -> Mean:
        """Mean of the primary metric."""
        groups = list(self.values(task, side).values())
        name = self.metric(task)
        found = estimate(groups, quantity(name).bounds)
        return Mean(unit_of(name), found.mean, found.low, found.high, found.error, spreads(groups)[0])

    def metric(self, task: str) -> str:
        """The metric that a task is judged by, such as test/accuracy."""
        return str(self.scores.loc[self.scores["task"] == task, "metric"].iloc[0])

    def difference(self, task: str, ours: Side, theirs: Side) -> Difference:
        """Ours minus theirs, paired by seed; with a verdict where theirs is the study's baseline."""
        if ours.setting == theirs.setting and theirs.variant == self.study.baseline:
            table = self._by_setting if ours.setting else self._comparisons
            if (task, ours.setting, ours.variant) in table:
                return table[task, ours.setting, ours.variant]
        found = self._compared(task, ours, theirs)
        return _difference(found.names | describe(found.pairs, found.names["goal"]))

    def _compared(self, task: str, ours: Side, theirs: Side) -> Comparison:
        left, right = self.values(task, ours), self.values(task, theirs)
        if ours.setting != theirs.setting:
            left, right = ({"": next(iter(side.values()))} for side in (left, right))
        pairs = by_seed([(left[name] - right[name]).dropna() for name in left])
        metric, about = self.metric(task), self.study.tasks[task]
        names = {"task": task, "setting": ours.setting, "variant": ours.variant, "metric": metric, "goal": about.goal}
        sides = [
            (self.scores["variant"] == side.variant) & (self.scores["setting"] == side.setting)
            for side in (ours, theirs)
        ]
        runs = self.scores[(self.scores["task"] == task) & (sides[0] | sides[1])]
        return Comparison(names, self.study.margin(metric), pairs, runs, is_solvable(about.family, metric))

    @cached_property
    def report(self) -> report.Results:
        """All numbers of the study's report."""
        return analyse(self.folder)

    @cached_property
    def _paired(self) -> pd.DataFrame:
        return paired_differences(self.scores, self.study)

    @cached_property
    def _comparisons(self) -> dict[tuple[str, str, str], Difference]:
        return {(row["task"], "", row["variant"]): _difference(row) for row in self._paired.to_dict("records")}

    def count(self, variant: str, verdict: str) -> int:
        """Tasks on which a variant has this verdict; "open" counts those that more seeds may decide."""
        words = [found.verdict for (_, _, name), found in self._comparisons.items() if name == variant]
        if verdict == "open":
            return sum(word in OPEN for word in words)
        return words.count(verdict)

    @cached_property
    def averages(self) -> dict[str, dict[Hashable, Any]]:
        """By variant the row of the table `overall`."""
        rows, _ = overall(compared(self.scores, self.study), self._paired, looks_of(self.study))
        return {row["variant"]: row for row in rows.to_dict("records")}

    def average(self, variant: str, to: str, without: str) -> tuple[float, float, float]:
        """Mean and interval over seeds of a variant's mean over tasks without one of them, in margins; not adjusted."""
        tasks = [task for task in self.study.tasks if task != without]
        found = [self._compared(task, Side(variant), Side(to or self.study.baseline)) for task in tasks]
        return difference(in_margins(found, looks_of(self.study).seeds[0]).mean(axis=1))[:3]

    @cached_property
    def _by_setting(self) -> dict[tuple[str, str, str], Difference]:
        rows = paired_differences(self.scores, self.study, by_setting=True).to_dict("records")
        return {(row["task"], row["setting"], row["variant"]): _difference(row) for row in rows}

    @cached_property
    def published_minus_corrected(self) -> dict[tuple[str, str], Difference]:
        """Per (task, variant) the setting `published` minus the setting `mended`, adjusted over the variant's tasks."""
        known = {(run.task, run.variant) for run in self.study.runs}
        cells = [(task, variant) for task in self.study.tasks for variant in self.study.variants]
        cells = [cell for cell in cells if cell in known]
        found = [self._compared(task, Side(variant, "published"), Side(variant, "mended")) for task, variant in cells]
        judged = judge(found).to_dict("records")
        return dict(zip(cells, map(_difference, judged), strict=True))

    def solved(self, task: str, variant: str) -> tuple[int, int]:
        """Runs that solve a task (accuracy of at least 0.99), and all runs."""
        values = pd.concat(self.values(task, Side(variant)).values())
        return int((values >= SOLVED).sum()), len(values)

    def last(self, task: str, variant: str, metric: str) -> "pd.Series[float]":
        """By seed the last recorded value of a metric."""
        chosen = self.curves[(self.curves["task"] == task) & (self.curves["variant"] == variant)]
        chosen = chosen[chosen["metric"] == metric]
        if chosen.empty:
            raise ValueError(f"{self.study.name} has no curve {metric} of {task} {variant}")
        return chosen.sort_values("step").groupby("seed")["value"].last()

    def steps(self, task: str) -> int:
        """Optimisation steps of a run."""
        return int(self.scores.loc[self.scores["task"] == task, "steps"].iloc[0])

    def cost(self, tasks: Sequence[str], variant: str, column: str) -> list[float]:
        """The ratio to qkv of a cost, in each setting of these tasks; empty where it was not measured."""
        costs = self.costs[self.costs["task"].isin(tasks)]
        both = costs[costs["variant"] == variant].merge(costs[costs["variant"] == "qkv"], on=["task", "setting"])
        if both.empty:
            raise ValueError(f"no cost of {variant} on {', '.join(tasks)}")
        if column == "step_ratio":  # steps are timed in turns: the median of their ratios, not a ratio of medians
            return [float(value) for value in both["step_ratio_x"] / both["step_ratio_y"]]
        return [float(value) for value in (both[f"{column}_x"] / both[f"{column}_y"]).dropna()]


@cache
def study(name: str) -> Results:
    """A committed study by name. Raises ValueError for an unknown one."""
    if name not in STUDIES:
        raise ValueError(f"there is no study '{name}'; the committed ones are {', '.join(STUDIES)}")
    return Results(REFERENCE if name == "reference" else REFERENCE / name)


def spread_of(values: "pd.Series[float]", metric: str) -> Difference:
    """Mean and interval of one number per seed."""
    found = estimate([values])
    return Difference(unit_of(metric), found.mean, found.low, found.high, len(values), int((values > 0).sum()))


@cache
def benchmark(name: str) -> pd.DataFrame:
    """A table of results/reference/benchmarks."""
    return pd.read_csv(REFERENCE / "benchmarks" / f"{name}.csv")


@cache
def published() -> pd.DataFrame:
    """The published numbers, in our units."""
    return load_published(ROOT / PUBLISHED)
