"""What the runs of a study say: means per variant, paired differences to the baseline, aggregates over tasks.

Every function takes `scores`: the rows of `frames.scores`, one per expected run. Rows come out in the study's order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kvformer.analysis import statistics
from kvformer.analysis.frames import usable
from kvformer.analysis.quantities import quantity
from kvformer.analysis.study import ALL_SETTINGS, Study
from kvformer.errors import KvformerError

SUCCESS = 0.99
"""A synthetic task counts as solved from this accuracy on (the papers' threshold)."""


@dataclass(frozen=True)
class Cells:
    """The runs by (task, setting, variant): `values` by seed of those that count, `lost` words on those that do not."""

    values: Mapping[tuple[str, str, str], pd.Series]
    lost: Mapping[tuple[str, str, str], dict[int, str]]

    @classmethod
    def of(cls, scores: pd.DataFrame) -> "Cells":
        """Split a scores frame."""
        values: dict[tuple[str, str, str], dict[int, float]] = {}
        lost: dict[tuple[str, str, str], dict[int, str]] = {}
        counted = set(usable(scores).index)
        columns = scores[["task", "setting", "variant", "seed", "value", "status"]]
        for index, task, setting, variant, seed, value, status in columns.itertuples(name=None):
            cell = (task, setting, variant)
            values.setdefault(cell, {})
            lost.setdefault(cell, {})
            if index in counted:
                values[cell][seed] = value
            else:
                # A finished run can still lack its metric, or hold one that is no number.
                lost[cell][seed] = "finished without a value" if status == "finished" else status
        return cls({cell: pd.Series(found, dtype=float).sort_index() for cell, found in values.items()}, lost)

    def get(self, task: str, setting: str, variant: str) -> pd.Series:
        """Values by seed; empty where the study has no such runs."""
        return self.values.get((task, setting, variant), pd.Series(dtype=float))


def _blocks(scores: pd.DataFrame, study: Study, by_setting: bool) -> Iterator[tuple[str, str, list[str], str, str]]:
    """(task, setting's name, settings in it, metric, goal): a row group per setting, or one per task."""
    for task, group in ((task, scores[scores["task"] == task]) for task in study.tasks):
        if group.empty:
            continue
        settings = list(dict.fromkeys(group["setting"]))
        metric, goal = group["metric"].iloc[0], group["goal"].iloc[0]
        if by_setting or len(settings) == 1:
            yield from ((task, setting, [setting], metric, goal) for setting in settings)
        else:
            yield task, ALL_SETTINGS, settings, metric, goal


def summarise(scores: pd.DataFrame, study: Study, by_setting: bool = False) -> pd.DataFrame:
    """Mean, intervals and spreads per (task, variant), over the settings of the task; or per setting.

    Columns: task, family, setting, variant, metric, goal, n, expected, mean, low, high, bootstrap_low, bootstrap_high
    (not per setting), seed_sd, setting_sd, minimum, maximum, parameters, lost.
    """
    cells = Cells.of(scores)
    parameters = usable(scores).groupby(["task", "setting", "variant"])["parameters"].max().to_dict()
    rows = []
    for task, name, settings, metric, goal in _blocks(scores, study, by_setting):
        for variant in study.variants:
            keys = [(task, setting, variant) for setting in settings if (task, setting, variant) in cells.values]
            if not keys:
                continue
            groups = [cells.values[key] for key in keys]
            found = statistics.estimate(groups, quantity(metric).bounds)
            seed_sd, setting_sd = statistics.spreads(groups)
            pooled = pd.concat(groups)
            lost = [f"{key[1]} seed {seed}: {words}" for key in keys for seed, words in cells.lost[key].items()]
            rows.append(
                {"task": task, "family": study.tasks[task]["family"], "setting": name, "variant": variant}
                | {"metric": metric, "goal": goal, "n": found.n, "expected": found.n + len(lost)}
                | {"mean": found.mean, "low": found.low, "high": found.high}
                | ({} if by_setting else _bootstrap(groups))
                | {"seed_sd": seed_sd, "setting_sd": setting_sd}
                | {"minimum": pooled.min(), "maximum": pooled.max()}
                | {"parameters": max((parameters[key] for key in keys if key in parameters), default=np.nan)}
                | {"lost": "; ".join(lost)}
            )
    return pd.DataFrame(rows)


def _bootstrap(groups: list[pd.Series]) -> dict[str, float]:
    low, high = statistics.bootstrap_interval(groups)
    return {"bootstrap_low": low, "bootstrap_high": high}


def success_rates(scores: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Share of runs that solve a synthetic task, with Wilson's interval; one that diverged or failed has not.

    Columns: task, setting, variant, successes, n (finished, diverged and failed runs), rate, low, high.
    """
    rows = []
    for task, name, settings, metric, _ in _blocks(scores, study, by_setting=False):
        if study.tasks[task]["family"] != "synthetic" or quantity(metric).name != "accuracy":
            continue
        for variant in study.variants:
            runs = scores[(scores["task"] == task) & (scores["variant"] == variant) & scores["setting"].isin(settings)]
            tried = runs[runs["status"].isin(["finished", "diverged", "failed"])]
            if tried.empty:
                continue
            successes = int((usable(tried)["value"] >= SUCCESS).sum())
            low, high = statistics.wilson_interval(successes, len(tried))
            rows.append(
                {"task": task, "setting": name, "variant": variant, "successes": successes, "n": len(tried)}
                | {"rate": successes / len(tried), "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def require_complete(scores: pd.DataFrame, study: Study) -> None:
    """Refuse unequal seed sets.

    Raises:
        KvformerError: a run of a pair with the baseline is lost; all such runs are named.
    """
    cells = Cells.of(scores)
    named = [
        f"{task}/{setting}/{variant}/seed{seed} ({words})"
        for (task, setting, variant), lost in cells.lost.items()
        for seed, words in lost.items()
    ]
    for task, setting, variant in cells.values:
        seeds, baseline = (
            set(cells.get(task, setting, name).index) | set(cells.lost.get((task, setting, name), {}))
            for name in (variant, study.baseline)
        )
        named += [f"{task}/{setting}/{variant}/seed{seed} (not in the study)" for seed in sorted(baseline - seeds)]
        named += [
            f"{task}/{setting}/{study.baseline}/seed{seed} (not in the study)" for seed in sorted(seeds - baseline)
        ]
    if named:
        raise KvformerError(f"variants cannot be compared on equal seeds, these runs are lacking: {', '.join(named)}")


def paired_differences(scores: pd.DataFrame, study: Study, by_setting: bool = False) -> pd.DataFrame:
    """Differences to the baseline at equal setting and seed, with tests adjusted (Holm) over the table and a verdict.

    A pair that lacks a run is left out and its lost run named in `unpaired`; `require_complete` refuses instead.
    Columns: task, setting, variant, baseline, metric, goal, n, then those of `describe_differences`, margin, unpaired.
    """
    cells = Cells.of(scores)
    rows = []
    for task, name, settings, metric, goal in _blocks(scores, study, by_setting):
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
                {"task": task, "setting": name, "variant": variant, "baseline": study.baseline}
                | {"metric": metric, "goal": goal, "margin": study.margin(metric)}
                | describe_differences(groups, metric, goal)
                | {"unpaired": "; ".join(unpaired)}
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


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Add `p_t_holm` and `p_wilcoxon_holm`, adjusted over the table, and the `verdict` of every row."""
    if table.empty:
        return table
    table = table.assign(p_t_holm=statistics.holm(table["p_t"]), p_wilcoxon_holm=statistics.holm(table["p_wilcoxon"]))
    verdicts = []
    for row in table.to_dict("records"):
        found = statistics.Estimate(*(row[name] for name in ("difference", "low", "high", "n", "error", "freedom")))
        margin = None if pd.isna(row["margin"]) else row["margin"]
        verdicts.append(statistics.verdict(found, row["p_t_holm"], margin, row["goal"]))
    return table.assign(verdict=verdicts)


def aggregates(scores: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Interquartile mean and probability of improvement over the tasks judged by accuracy, with bootstrap intervals.

    A task counts with one value a seed, the mean over its settings, and with the seeds that variant and baseline both
    completed. Columns: variant, tasks, n, mean, iqm, iqm_low, iqm_high, improvement, improvement_low, improvement_high.
    """
    cells = Cells.of(scores)
    blocks = [block for block in _blocks(scores, study, by_setting=False) if quantity(block[3]).name == "accuracy"]
    rows = []
    for variant in study.variants:
        ours, theirs = [], []
        for task, _, settings, _, _ in blocks:
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
        found = statistics.aggregate(ours, theirs)
        rows.append(
            {
                "variant": variant,
                "tasks": len(ours),
                "n": sum(map(len, ours)),
                "mean": np.mean([x.mean() for x in ours]),
            }
            | found._asdict()
        )
    return pd.DataFrame(rows)
