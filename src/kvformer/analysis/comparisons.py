"""What the runs of a study say: means per variant, paired differences to the baseline, aggregates over tasks.

Every function takes `scores`: the rows of `frames.scores`, one per expected run, and returns rows in the study's order;
their columns are those of the tables of `results.Results`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kvformer.analysis import statistics
from kvformer.analysis.decisions import judge
from kvformer.analysis.frames import CELL, KEYS, usable
from kvformer.analysis.quantities import SOLVED, quantity
from kvformer.analysis.study import ALL_SETTINGS, Study


@dataclass(frozen=True)
class Cells:
    """The runs by (task, setting, variant): `values` by seed of those that count, `lost` words on the others."""

    values: Mapping[tuple[str, str, str], pd.Series]
    lost: Mapping[tuple[str, str, str], Mapping[int, str]]

    @classmethod
    def of(cls, scores: pd.DataFrame) -> "Cells":
        """Split a scores frame."""
        values: dict[tuple[str, str, str], dict[int, float]] = {}
        lost: dict[tuple[str, str, str], dict[int, str]] = {}
        counted = scores.index.isin(usable(scores).index)
        rows = scores[[*KEYS, "value", "status"]].itertuples(index=False, name=None)
        for good, (task, setting, variant, seed, value, status) in zip(counted, rows, strict=True):
            cell = (task, setting, variant)
            values.setdefault(cell, {})
            lost.setdefault(cell, {})
            if good:
                values[cell][seed] = value
            else:
                # A finished run can still have no value of its metric, or one that is not finite.
                lost[cell][seed] = "finished without a value" if status == "finished" else status
        return cls({cell: pd.Series(found, dtype=float).sort_index() for cell, found in values.items()}, lost)

    def get(self, task: str, setting: str, variant: str) -> pd.Series:
        """Values by seed; empty where the study has no such runs."""
        return self.values.get((task, setting, variant), pd.Series(dtype=float))


class Block(NamedTuple):
    """A group of rows of a table: a task at one setting, or over all of its settings (then `name` is `all`)."""

    task: str
    name: str
    settings: list[str]
    metric: str
    goal: str


def blocks(scores: pd.DataFrame, study: Study, by_setting: bool = False) -> Iterator[Block]:
    """The blocks of the tasks: one per setting, or one per task."""
    for task, group in ((task, scores[scores["task"] == task]) for task in study.tasks):
        if group.empty:
            continue
        settings = list(dict.fromkeys(group["setting"]))
        metric, goal = group["metric"].iloc[0], group["goal"].iloc[0]
        if by_setting or len(settings) == 1:
            yield from (Block(task, setting, [setting], metric, goal) for setting in settings)
        else:
            yield Block(task, ALL_SETTINGS, settings, metric, goal)


def summarise(scores: pd.DataFrame, study: Study, by_setting: bool = False) -> pd.DataFrame:
    """Mean, intervals and spreads per (task, variant), over the settings of the task; or per setting, without bootstrap
    and without naming a winner."""
    cells = Cells.of(scores)
    parameters = usable(scores).groupby(CELL)["parameters"].max().to_dict()
    rows = []
    for task, name, settings, metric, goal in blocks(scores, study, by_setting):
        for variant in study.variants:
            keys = [(task, setting, variant) for setting in settings if (task, setting, variant) in cells.values]
            if not keys:
                continue
            groups = [cells.values[key] for key in keys]
            found = statistics.estimate(groups, quantity(metric).bounds)
            seed_sd, setting_sd = statistics.spreads(groups)
            pooled = pd.concat(groups)
            lost = sum(len(cells.lost[key]) for key in keys)
            rows.append(
                {"task": task, "family": study.tasks[task].family, "setting": name, "variant": variant}
                | {"metric": metric, "goal": goal, "n": found.n, "expected": found.n + lost}
                | {"mean": found.mean, "low": found.low, "high": found.high}
                | _bootstrap(groups, by_setting)
                | {"seed_sd": seed_sd, "setting_sd": setting_sd}
                | {"minimum": pooled.min(), "maximum": pooled.max()}
                | {"parameters": max((parameters[key] for key in keys if key in parameters), default=np.nan)}
            )
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    return table.assign(winner=False if by_setting else _clear_winners(table))


def _bootstrap(groups: list[pd.Series], skipped: bool) -> dict[str, float]:
    low, high = (np.nan, np.nan) if skipped else statistics.bootstrap_interval(groups)
    return {"bootstrap_low": low, "bootstrap_high": high}


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
    for task, name, settings, metric, _ in blocks(scores, study):
        if study.tasks[task].family != "synthetic" or quantity(metric).name != "accuracy":
            continue
        for variant in study.variants:
            runs = scores[(scores["task"] == task) & (scores["variant"] == variant) & scores["setting"].isin(settings)]
            tried = runs[runs["status"].isin(["finished", "diverged", "failed"])]
            if tried.empty:
                continue
            successes = int((usable(tried)["value"] >= SOLVED).sum())
            low, high = statistics.wilson_interval(successes, len(tried))
            rows.append(
                {"task": task, "setting": name, "variant": variant, "successes": successes, "n": len(tried)}
                | {"rate": successes / len(tried), "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def seed_means(scores: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The metric of each (task, variant) by seed, averaged over settings; only seeds that finished every setting."""
    frames = [pd.DataFrame()]
    done = usable(scores)
    for task, _, settings, _, _ in blocks(scores, study):
        for variant in study.variants:
            own = done[(done["task"] == task) & (done["variant"] == variant)].groupby("seed")["value"]
            means = own.mean()[own.count() == len(settings)]
            frames.append(means.rename("value").reset_index().assign(task=task, variant=variant))
    return pd.concat(frames, ignore_index=True)


def paired_differences(scores: pd.DataFrame, study: Study, by_setting: bool = False) -> pd.DataFrame:
    """Differences to the baseline at equal setting and seed, with tests adjusted (Holm) over the table and a verdict.

    A pair of which a run is lost is left out, and the lost run is named in `unpaired`.
    """
    cells = Cells.of(scores)
    rows = []
    for task, name, settings, metric, goal in blocks(scores, study, by_setting):
        for variant in study.variants:
            keys = [setting for setting in settings if (task, setting, variant) in cells.values]
            if not keys or variant == study.baseline:
                continue
            groups, unpaired = [], []
            for setting in keys:
                ours, theirs = cells.get(task, setting, variant), cells.get(task, setting, study.baseline)
                groups.append((ours - theirs).dropna())
                unpaired += [
                    f"{who} {setting} seed {seed}: {words}"
                    for who in (variant, study.baseline)
                    for seed, words in cells.lost.get((task, setting, who), {}).items()
                ]
            rows.append(
                {"task": task, "setting": name, "variant": variant, "metric": metric, "goal": goal}
                | {"margin": study.margin(metric), "unpaired": "; ".join(unpaired)}
                | describe_differences(groups, metric, goal)
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
    cells = Cells.of(scores)
    judged = [block for block in blocks(scores, study) if quantity(block.metric).name == "accuracy"]
    rows = []
    for variant in study.variants:
        ours, theirs = [], []
        for task, _, settings, _, _ in judged:
            columns = [
                pd.concat([cells.get(task, setting, who) for setting in settings], axis=1).dropna().mean(axis=1)
                for who in (variant, study.baseline)
            ]
            both = pd.concat(columns, axis=1).dropna()
            if len(both):
                ours.append(both.iloc[:, 0].to_numpy())
                theirs.append(both.iloc[:, 1].to_numpy())
        if len(ours) < 2:
            continue
        counts = {"tasks": len(ours), "n": sum(map(len, ours)), "mean": np.mean([values.mean() for values in ours])}
        rows.append({"variant": variant} | counts | statistics.aggregate(ours, theirs)._asdict())
    return pd.DataFrame(rows)
