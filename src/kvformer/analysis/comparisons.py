"""What the runs of a study say: means per variant, paired differences to the baseline, aggregates over tasks.

Every function takes `scores`: the rows of `frames.scores`, one per expected run, and returns rows in the study's order;
their columns are those of the tables of `results.Results`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kvformer.analysis import frames, statistics
from kvformer.analysis.frames import CELL, usable
from kvformer.analysis.quantities import SOLVED, quantity
from kvformer.analysis.study import ALL_SETTINGS, Study

PENDING = ("missing", "stale")
"""What becomes of a run that has not ended."""


class Block(NamedTuple):
    """What a row of a table is about: a variant on a task, at one setting or over all of them.

    setting: its name, or `all`. runs: the expected runs. baseline: those of the baseline at the same settings.
    """

    task: str
    setting: str
    variant: str
    metric: str
    goal: str
    settings: list[str]
    runs: pd.DataFrame
    baseline: pd.DataFrame

    @property
    def names(self) -> dict[str, str]:
        """The columns that identify the row, and what is compared in it."""
        return {name: getattr(self, name) for name in (*CELL, "metric", "goal")}


@dataclass(frozen=True, eq=False)
class Comparison:
    """A variant and what it is compared with, on one task: the input of the rule.

    names: task, setting, variant, metric, goal. margin: None where none is fixed. pairs: by seed the difference
    (variant minus baseline), the mean over settings. runs: the expected runs of both sides, with variant, setting,
    seed, status and value. solvable: whether a run can solve the task.
    """

    names: dict[str, Any]
    margin: float | None
    pairs: "pd.Series[float]"
    runs: pd.DataFrame
    solvable: bool = False

    @property
    def planned(self) -> int:
        """The number of seeds that the study plans."""
        return max(self.runs["seed"].nunique(), len(self.pairs))

    def signed(self, seeds: float = np.inf) -> "pd.Series[float]":
        """The pairs with a seed below `seeds`; positive is better."""
        pairs = self.pairs[self.pairs.index < seeds]
        return pairs if self.names["goal"] == "max" else -pairs

    def both_solve(self, seeds: float = np.inf) -> bool:
        """Whether every run with a seed below `seeds` solves the task. A diverged run does not; a failed one says
        nothing."""
        known = self.runs[self.runs["status"].isin(["finished", "diverged"]) & (self.runs["seed"] < seeds)]
        return self.solvable and len(known) > 0 and bool((usable(known)["value"] >= SOLVED).sum() == len(known))

    def reached(self, seeds: float) -> bool:
        """Whether the runs with a seed below `seeds` have ended on both sides, or later ones were run without them."""
        ended = self.runs[~self.runs["status"].isin(PENDING)]
        counts = ended[ended["seed"] < seeds].groupby(["setting", "variant"])["seed"].nunique()
        sides = self.runs.groupby(["setting", "variant"]).ngroups
        later = ended[(ended["seed"] >= seeds) & (ended["variant"] == self.names["variant"])]
        return len(later) > 0 or (len(counts) == sides and bool((counts >= seeds).all()))

    def unpaired(self, seeds: float = np.inf) -> str:
        """The lost runs with a seed below `seeds`, and what became of each."""
        lost = frames.lost(self.runs[self.runs["seed"] < seeds])
        order = list(dict.fromkeys(self.runs["setting"]))
        lost = lost.sort_values("setting", key=lambda names: names.map(order.index), kind="stable")
        # A finished run can still have no value of its metric, or one that is not finite.
        words = lost["status"].replace("finished", "finished without a value")
        named = zip(lost["variant"], lost["setting"], lost["seed"], words, strict=True)
        return "; ".join(f"{variant} {setting} seed {seed}: {became}" for variant, setting, seed, became in named)


def blocks(scores: pd.DataFrame, study: Study, by_setting: bool = False) -> Iterator[Block]:
    """The blocks of the tasks, in the study's order: one per variant and setting, or one per variant."""
    for task, of_task in ((task, scores[scores["task"] == task]) for task in study.tasks):
        settings = list(dict.fromkeys(of_task["setting"]))
        groups = {name: [name] for name in settings} if by_setting or len(settings) == 1 else {ALL_SETTINGS: settings}
        for name, inside in groups.items():
            runs = dict(list(of_task[of_task["setting"].isin(inside)].groupby("variant")))
            baseline = runs.get(study.baseline, of_task.iloc[:0])
            for variant in (variant for variant in study.variants if variant in runs):
                metric, goal = of_task["metric"].iloc[0], of_task["goal"].iloc[0]
                yield Block(task, name, variant, metric, goal, inside, runs[variant], baseline)


def summarise(scores: pd.DataFrame, study: Study, by_setting: bool = False) -> pd.DataFrame:
    """Mean, intervals and spreads per (task, variant), over the settings of the task; or per setting, without
    bootstrap."""
    rows = []
    for block in blocks(scores, study, by_setting):
        done = usable(block.runs)
        groups = list(frames.by_setting(done).values())
        found = statistics.estimate(groups, quantity(block.metric).bounds)
        seed_sd, setting_sd = statistics.spreads(groups)
        low, high = (np.nan, np.nan) if by_setting else statistics.bootstrap_interval(groups)
        rows.append(
            {**block.names, "family": study.tasks[block.task].family, "n": found.n, "expected": len(block.runs)}
            | {"mean": found.mean, "low": found.low, "high": found.high}
            | {"bootstrap_low": low, "bootstrap_high": high, "seed_sd": seed_sd, "setting_sd": setting_sd}
            | {"minimum": done["value"].min(), "maximum": done["value"].max(), "parameters": done["parameters"].max()}
        )
    return pd.DataFrame(rows)


def family_averages(summary: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Per family and variant: the mean over tasks, where all are judged by accuracy, and the range of parameters."""
    rows = []
    for family in study.families:
        own = summary[summary["family"] == family]
        comparable = own["task"].nunique() > 1 and {quantity(metric).name for metric in own["metric"]} == {"accuracy"}
        means = own.pivot(index="variant", columns="task", values="mean").mean(axis=1, skipna=False)
        for variant in own["variant"].drop_duplicates():
            counts = own.loc[own["variant"] == variant, "parameters"]
            rows.append(
                {"family": family, "variant": variant, "average": means[variant] if comparable else np.nan}
                | {"fewest_parameters": counts.min(), "most_parameters": counts.max()}
            )
    return pd.DataFrame(rows)


def is_solvable(family: str, metric: str) -> bool:
    """Whether a run can solve a task: the synthetic ones that are judged by accuracy."""
    return family == "synthetic" and quantity(metric).name == "accuracy"


def success_rates(scores: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Share of runs that solve a synthetic task, with Wilson's interval.

    n: finished, diverged and failed runs; only finished ones can have solved it.
    """
    rows = []
    for block in blocks(scores, study):
        tried = block.runs[block.runs["status"].isin(["finished", "diverged", "failed"])]
        if is_solvable(study.tasks[block.task].family, block.metric) and len(tried):
            successes = int((usable(tried)["value"] >= SOLVED).sum())
            low, high = statistics.wilson_interval(successes, len(tried))
            rows.append(
                {**block.names, "successes": successes, "n": len(tried)}
                | {"rate": successes / len(tried), "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def seed_means(scores: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The metric of each (task, variant) by seed, averaged over settings; only seeds that finished every setting."""
    means = [pd.DataFrame(columns=["seed", "value", *CELL, "metric"])]
    for block in blocks(scores, study):
        done = usable(block.runs).groupby("seed")["value"]
        whole = done.mean()[done.count() == len(block.settings)]
        means.append(whole.reset_index().assign(**block.names))
    return pd.concat(means, ignore_index=True)


def compared(scores: pd.DataFrame, study: Study, by_setting: bool = False) -> list[Comparison]:
    """Every variant with the baseline at equal setting and seed: what `decisions.judge` decides."""
    found = []
    for block in blocks(scores, study, by_setting):
        if block.variant != study.baseline:
            groups = frames.paired_by_setting(usable(block.runs), usable(block.baseline))
            pairs, runs = statistics.by_seed([*groups.values()]), pd.concat([block.runs, block.baseline])
            solvable = is_solvable(study.tasks[block.task].family, block.metric)
            found.append(Comparison(block.names, study.margin(block.metric), pairs, runs, solvable))
    return found


def aggregates(scores: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Interquartile mean and probability of improvement over the tasks judged by accuracy, with bootstrap intervals.

    A task counts with one value per seed, the mean over its settings, and with the seeds that variant and baseline both
    completed.
    """
    seeds = seed_means(scores, study)
    seeds = seeds[seeds["metric"].map(lambda metric: quantity(metric).name) == "accuracy"]
    values = {key: group.set_index("seed")["value"] for key, group in seeds.groupby(["task", "variant"], sort=False)}
    rows = []
    for variant in study.variants:
        pairs = [
            pd.concat([values[task, variant], values[task, study.baseline]], axis=1, join="inner").to_numpy(float).T
            for task in seeds["task"].unique()
            if {(task, variant), (task, study.baseline)} <= values.keys()
        ]
        pairs = [pair for pair in pairs if pair.size]
        if len(pairs) < 2:
            continue
        ours, theirs = zip(*pairs, strict=True)
        counts = {"tasks": len(ours), "n": sum(map(len, ours)), "mean": np.mean([values.mean() for values in ours])}
        rows.append({"variant": variant} | counts | statistics.aggregate(ours, theirs)._asdict())
    return pd.DataFrame(rows)
