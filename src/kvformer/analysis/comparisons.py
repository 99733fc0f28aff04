"""What the runs of a study say: means per variant, paired differences to the baseline, aggregates over tasks.

Every function takes `scores`: the rows of `frames.scores`, one per expected run, and returns rows in the study's order;
their columns are those of the tables of `results.Results`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kvformer.analysis import frames, statistics
from kvformer.analysis.decisions import judge
from kvformer.analysis.frames import CELL, usable
from kvformer.analysis.quantities import SOLVED, quantity
from kvformer.analysis.study import ALL_SETTINGS, Study


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
    """Mean, intervals and spreads per (task, variant), over the settings of the task; or per setting, without bootstrap
    and without naming a winner."""
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
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    return table.assign(winner=False if by_setting else _clear_winners(table))


def _clear_winners(summary: pd.DataFrame) -> pd.Series:
    """Whether a row has the best mean of its task, and the next best one lies outside its interval."""
    winners = pd.Series(False, index=summary.index)
    for _, rows in summary.dropna(subset=["mean"]).groupby("task"):
        ranked = rows.sort_values("mean", ascending=rows["goal"].iloc[0] == "min")
        if len(ranked) > 1 and pd.notna(ranked["low"].iloc[0]):
            best, following = ranked.iloc[0], ranked["mean"].iloc[1]
            winners[ranked.index[0]] = not best["low"] <= following <= best["high"]
    return winners


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


def success_rates(scores: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Share of runs that solve a synthetic task, with Wilson's interval.

    n: finished, diverged and failed runs; only finished ones can have solved it.
    """
    rows = []
    for block in blocks(scores, study):
        tried = block.runs[block.runs["status"].isin(["finished", "diverged", "failed"])]
        accurate = quantity(block.metric).name == "accuracy"
        if study.tasks[block.task].family == "synthetic" and accurate and len(tried):
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


def paired_differences(scores: pd.DataFrame, study: Study, by_setting: bool = False) -> pd.DataFrame:
    """Differences to the baseline at equal setting and seed, with tests adjusted (Holm) over the table and a verdict.

    A pair of which a run is lost is left out, and the lost run is named in `unpaired`.
    """
    rows = []
    for block in blocks(scores, study, by_setting):
        if block.variant == study.baseline:
            continue
        lost = frames.lost(pd.concat([block.runs, block.baseline]))
        lost = lost.sort_values("setting", key=lambda names: names.map(block.settings.index), kind="stable")
        # A finished run can still have no value of its metric, or one that is not finite.
        words = lost["status"].replace("finished", "finished without a value")
        named = zip(lost["variant"], lost["setting"], lost["seed"], words, strict=True)
        unpaired = "; ".join(f"{variant} {setting} seed {seed}: {became}" for variant, setting, seed, became in named)
        groups = list(frames.paired_by_setting(usable(block.runs), usable(block.baseline)).values())
        rows.append(
            {**block.names, "margin": study.margin(block.metric), "unpaired": unpaired}
            | describe_differences(groups, block.metric, block.goal)
        )
    return judge(pd.DataFrame(rows))


def describe_differences(groups: list[pd.Series], metric: str, goal: str) -> dict[str, Any]:
    """Estimate, tests and effect sizes of paired differences, one group per setting.

    groups: the differences of each setting by seed. A pair is a seed: over a grid, the mean of its differences.
    Keys: n (pairs), difference, low, high, error, freedom, favourable and unfavourable (pairs in which the variant does
    better or worse), p_t, p_wilcoxon, smallest_p, effect_dz, effect_rank.
    """
    low, high = quantity(metric).bounds
    found = statistics.estimate(groups, (low - high, high - low))
    pairs = statistics.seed_means(groups)
    better = pairs > 0 if goal == "max" else pairs < 0
    return {
        "n": pairs.size,
        "difference": found.mean if pairs.size else np.nan,
        "low": found.low,
        "high": found.high,
        "error": found.error,
        "freedom": found.freedom,
        "favourable": int(better.sum()),
        "unfavourable": int((pairs != 0).sum() - better.sum()),
        "p_t": found.p_value,
        "p_wilcoxon": statistics.wilcoxon_p(pairs),
        "smallest_p": statistics.smallest_p(pairs.size),
        "effect_dz": statistics.cohens_dz(pairs),
        "effect_rank": statistics.rank_biserial(pairs),
    }


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
