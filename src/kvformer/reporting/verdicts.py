"""The verdicts of a study, in the order and in the units in which the page and the README show them."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan
from typing import Any

from kvformer.analysis.quantities import Quantity, quantity
from kvformer.analysis.results import Results
from kvformer.analysis.verdicts import BOTH_SOLVE, OPEN
from kvformer.reporting.sharing import has_query, shares
from kvformer.reporting.wording import count, interval, level, signed, span, tenth

SAFE = ("equivalent", "not worse", "better")
FAMILIES = {"synthetic": "Lists", "vision": "Images and sets", "language": "Text"}
MANY_VARIANTS = 8
"""Above this many compared variants, variants are rows everywhere."""
LEARNED = 0.5
"""Below this accuracy a list task that can be solved was not learned."""


@dataclass(frozen=True)
class Cell:
    """A variant on a task. Numbers are in printed units and signed so that minus is worse; NaN where unknown.

    word: its verdict, empty with a single pair. n: pairs. seeds: those that the study expects on the task by now. dots:
    the difference of each seed. diverged: how many of the variant's runs did.
    """

    task: str
    variant: str
    word: str
    n: int
    seeds: int
    mean: float
    low: float
    high: float
    margin: float
    what: Quantity
    worse_in: int
    failure: float
    dots: tuple[float, ...]
    diverged: int
    runs: int

    @property
    def solved(self) -> bool:
        """Whether both sides solve the task in all seeds."""
        return self.word == BOTH_SOLVE

    @property
    def incomplete(self) -> bool:
        """Whether it has fewer pairs than seeds."""
        return 0 < self.n < self.seeds

    @property
    def short(self) -> str:
        """The difference to a tenth of the margin."""
        return signed(self.mean, self.what.step_decimals - 1 if isnan(self.margin) else tenth(self.margin))

    @property
    def text(self) -> str:
        """The difference."""
        return signed(self.mean, self.what.step_decimals)

    @property
    def interval(self) -> str:
        """Its interval; empty with two pairs or fewer."""
        return interval(self.low, self.high, self.what.step_decimals)

    @property
    def words(self) -> str:
        """All of it, for a tooltip."""
        if self.solved:
            return f"both solve it in all {self.n} seeds"
        number = f"{self.text} {self.what.step} {self.interval}".strip()
        return ", ".join(filter(None, [self.word, number, f"worse in {self.worse_in} of {count(self.n, 'seed')}"]))


@dataclass(frozen=True)
class Task:
    """A task of the study. level: what the baseline reaches, printed. unlearned: it can be solved, but the baseline
    does not learn it."""

    name: str
    label: str
    metric: str
    level: str
    settings: int
    solvable: bool
    unlearned: bool


@dataclass(frozen=True)
class Group:
    """Variants that have a query map of their own, or none."""

    title: str
    short: str
    variants: list[str]


class Verdicts:
    """Cells, averages and the order of both. `variants` are those that are compared, without the baseline."""

    def __init__(self, results: Results) -> None:
        self.results, self.study = results, results.study
        self.baseline = results.study.baseline
        self.overall: dict[str, Mapping[Hashable, Any]] = {
            row["variant"]: row for row in results.overall.to_dict("records")
        }
        self.cells = {(cell.task, cell.variant): cell for cell in self._cells()}
        self.pairs = max((cell.n for cell in self.cells.values()), default=0)
        """The most pairs that a comparison has."""

    def _cells(self) -> Iterator[Cell]:
        values = {key: rows.set_index("seed")["value"] for key, rows in self.results.seeds.groupby(["task", "variant"])}
        lost = self.results.incomplete
        diverged = lost[lost["status"] == "diverged"].groupby(["task", "variant"]).size()
        runs = Counter((run.task, run.variant) for run in self.study.runs)
        for row in self.results.paired.to_dict("records"):
            key = row["task"], row["variant"]
            what = quantity(row["metric"])
            sign = what.scale if row["goal"] == "max" else -what.scale
            ends = sorted((sign * row["low"], sign * row["high"]))
            both = {key, (row["task"], self.baseline)} <= values.keys()
            dots = (values[key] - values[row["task"], self.baseline]).dropna() if both else ()
            yield Cell(
                task=row["task"],
                variant=row["variant"],
                word=row["verdict"] if row["n"] > 1 else "",
                n=int(row["n"]),
                seeds=self.seeds[row["task"]],
                mean=sign * row["difference"],
                low=ends[0],
                high=ends[1],
                margin=what.scale * row["margin"],
                what=what,
                worse_in=int(row["unfavourable"]),
                failure=row["failure_bound"],
                dots=tuple(sign * value for value in dots),
                diverged=int(diverged.get(key, 0)),
                runs=runs[key],
            )

    @cached_property
    def variants(self) -> list[str]:
        """The compared variants: those with a query map first (or last, if their best average is lower)."""
        return [variant for group in self.groups for variant in group.variants]

    @cached_property
    def groups(self) -> list[Group]:
        """With and without a query map, the best average first; without averages in the study's order."""
        compared = [variant for variant in self.study.variants if variant != self.baseline]
        means = {variant: row["mean"] for variant, row in self.overall.items() if not isnan(row["mean"])}
        compared.sort(key=lambda variant: -means.get(variant, 0.0))
        groups = [
            Group("Keeps its query", "query", [variant for variant in compared if has_query(variant) is not False]),
            Group("No query of its own", "no query", [variant for variant in compared if has_query(variant) is False]),
        ]
        groups = [group for group in groups if group.variants]
        return sorted(groups, key=lambda group: compared.index(group.variants[0])) if self.overall else groups

    @cached_property
    def without_query(self) -> list[str]:
        """The compared variants that have no query map."""
        return [variant for variant in self.variants if has_query(variant) is False]

    @property
    def asks_for_query(self) -> bool:
        """Whether the study compares variants without a query with a baseline that has one."""
        return bool(has_query(self.baseline)) and bool(self.without_query)

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The tasks by name: by family, the largest mean loss first, those that all variants solve last."""
        compared = list(dict.fromkeys(task for task, _ in self.cells))
        ordered = [name for names in self.study.families.values() for name in sorted(names, key=self._loss)]
        return {name: self._task(name) for name in ordered if name in compared}

    def _loss(self, task: str) -> tuple[bool, float]:
        row = [cell for (name, _), cell in self.cells.items() if name == task and cell.n]
        return all(cell.solved for cell in row), sum(cell.mean / cell.margin for cell in row if cell.margin > 0)

    def _task(self, name: str) -> Task:
        means = self.results.summary[self.results.summary["task"] == name].set_index("variant")["mean"]
        mean = means.get(self.baseline, nan)
        metric = self.results.tasks.set_index("task")["metric"][name]
        solvable = name in set(self.results.success["task"])
        label = self.study.label(name)
        words = f"{metric.rpartition('/')[0]} {quantity(metric).title}".strip()
        reached = level(mean, quantity(metric))
        return Task(name, label, words, reached, len(self.study.settings(name)), solvable, solvable and mean < LEARNED)

    @cached_property
    def families(self) -> dict[str, list[Task]]:
        """The tasks by the title of their family."""
        families: dict[str, list[Task]] = {}
        for name, task in self.tasks.items():
            family = self.study.tasks[name].family
            families.setdefault(FAMILIES.get(family, family.capitalize()), []).append(task)
        return families

    def of(self, variant: str, *words: str) -> list[str]:
        """The labels of the tasks on which a variant has one of these verdicts."""
        found = (self.cells.get((name, variant)) for name in self.tasks)
        return [self.tasks[cell.task].label for cell in found if cell and cell.n and cell.word in words]

    def averaging(self, *words: str) -> list[str]:
        """The variants with one of these verdicts on average."""
        return [variant for variant in self.variants if self.word(variant) in words]

    @cached_property
    def safe(self) -> list[str]:
        """The variants that are equivalent, not worse or better on average, the best average first."""
        return sorted(self.averaging(*SAFE), key=lambda variant: -self.overall[variant]["mean"])

    def word(self, variant: str) -> str:
        """The verdict of a variant on average; empty where there is no average, or only one seed."""
        row = self.overall.get(variant, {"n": 0})
        return str(row["verdict"]) if row["n"] > 1 else ""

    @cached_property
    def below(self) -> list[Cell]:
        """Comparisons below the ceiling that have a pair."""
        return [cell for cell in self.cells.values() if cell.n and not cell.solved]

    @cached_property
    def open(self) -> list[Cell]:
        """Those of them that are open."""
        return [cell for cell in self.below if cell.word in OPEN]

    @property
    def pairs_said(self) -> str:
        """`5`, or `8 to 12` where comparisons have different numbers of pairs."""
        return span(cell.n for cell in self.cells.values() if cell.n)

    @cached_property
    def seeds(self) -> dict[str, int]:
        """The seeds of each task that the study expects by now."""
        return Counter(task for task, _ in {(run.task, run.seed) for run in self.study.runs})

    @property
    def seeds_said(self) -> str:
        """`5`, or `2 to 5` where tasks have different numbers of seeds."""
        return span(self.seeds.values())

    @property
    def few(self) -> bool:
        """Whether there are too few tasks for an average."""
        return not self.overall

    @property
    def many(self) -> bool:
        """Whether there are too many variants for columns."""
        return len(self.variants) > MANY_VARIANTS

    @property
    def silent(self) -> bool:
        """Whether one seed allows numbers, but no verdicts."""
        return self.pairs < 2

    @property
    def shares(self) -> dict[str, str]:
        """What each variant shares."""
        return {variant: shares(variant) for variant in self.study.variants}
