"""No query, or only slower? The gap to the baseline while runs train, and the steps that a variant needs to catch up.

Both come from the evaluations that runs record: the quantity that the task is judged by, on the validation split, with
the weights of that step. They are not those of the selected weights on the test split.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from kvformer.analysis.comparisons import Block, blocks
from kvformer.analysis.frames import KEYS, usable
from kvformer.analysis.quantities import quantity
from kvformer.analysis.results import SHARES, TOO_FEW
from kvformer.analysis.statistics import LEVEL
from kvformer.analysis.study import Study

Array = NDArray[np.float64]

FEWEST = 4
"""Evaluations that a run must have: with fewer, one of the shares would lie before the first."""
MOST = 20
"""Points of a curve in the table `gap_curves`; of more evaluations, this many are taken, evenly spaced."""
BEHIND, LEVEL_WITH = -2.0, -1.0
"""In margins: a variant was behind on the way if its mean gap was below the first, and is level at the end if the whole
interval is above the second."""
DECAYED = 0.99
"""The learning rate decays if it ends below this part of its largest value."""


class Pairs(NamedTuple):
    """Evaluations of the pairs of one setting. shares (E,) of the steps; ours, theirs (E, seeds): more is better."""

    shares: Array
    ours: pd.DataFrame
    theirs: pd.DataFrame


def training_gaps(scores: pd.DataFrame, curves: pd.DataFrame, study: Study) -> dict[str, pd.DataFrame]:
    """The tables `gaps`, `gap_curves` and `pace` of `results.Results`.

    scores, curves: rows of runs.csv and curves.csv.gz, at the settings by which the variants are judged.
    """
    decays = _decaying(curves)
    own = curves[curves["metric"].str.startswith("validation/")].drop_duplicates([*KEYS, "metric", "step"])
    recorded = dict(list(own.groupby(["task", "variant", "metric"], sort=False)))
    gaps: list[dict[str, Any]] = []
    paces: list[dict[str, Any]] = []
    for block in blocks(scores, study):
        if block.variant == study.baseline:
            continue
        metric = f"validation/{quantity(block.metric).name}"
        sides = [recorded.get((block.task, name, metric)) for name in (block.variant, study.baseline)]
        if sides[0] is None or sides[1] is None:
            continue
        # A setting without a pair is not in the mean, as in the tables.
        pairs = [pair for pair in _pairs(block, sides[0], sides[1]) if pair.ours.shape[1]]
        if not pairs:
            continue
        names = {"task": block.task, "variant": block.variant, "metric": metric}
        evaluations = min(len(pair.shares) for pair in pairs)
        facts = {**names, "evaluations": evaluations, "decays": block.task in decays}
        if evaluations < FEWEST:
            unknown = dict.fromkeys(("factor", "low", "high", "at_least"), np.nan)
            paces.append({**facts, "verdict": TOO_FEW, "n": 0, "reached": 0, **unknown})
            continue
        margin = study.margin(block.metric)
        rows = [{**names, **row} for row in _gaps(pairs, block, np.nan if margin is None else margin)]
        gaps += rows
        paces.append({**facts, "verdict": _verdict(rows), **pace(pairs, 0.0 if margin is None else margin)})
    at_shares, drawn = ([row for row in gaps if row[part]] for part in ("named", "drawn"))
    return {"gaps": pd.DataFrame(at_shares), "gap_curves": pd.DataFrame(drawn), "pace": pd.DataFrame(paces)}


def average_gaps(gaps: pd.DataFrame) -> pd.DataFrame:
    """The mean over tasks of the gaps in margins, by variant and share; only tasks that have a margin."""
    if gaps.empty:
        return pd.DataFrame()
    groups = gaps.dropna(subset=["margins"]).groupby(["variant", "share"], sort=False)["margins"]
    return groups.agg(tasks="size", margins="mean").reset_index()


def _decaying(curves: pd.DataFrame) -> set[str]:
    """The tasks whose learning rate falls towards the end of training."""
    rates = curves[curves["metric"] == "train/learning_rate"].sort_values("step", kind="stable")
    ends = rates.groupby(["task", "setting"])["value"].agg(["last", "max"])
    return set(ends.index[ends["last"] < DECAYED * ends["max"]].get_level_values("task"))


def _pairs(block: Block, ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[Pairs]:
    """The pairs of each setting: runs that finished on both sides, with finite values at every evaluation."""
    sign = 1.0 if block.goal == "max" else -1.0
    done = [usable(block.runs), usable(block.baseline)]
    for setting in block.settings:
        frames = []
        for recorded, runs in zip((ours, theirs), done, strict=True):
            ended = runs.loc[runs["setting"] == setting, "seed"]
            rows = recorded[(recorded["setting"] == setting) & recorded["seed"].isin(ended)]
            frames.append(sign * rows.set_index(["step", "seed"])["value"].unstack())
        both = frames[0].index.intersection(frames[1].index).sort_values()
        seeds = frames[0].columns.intersection(frames[1].columns)
        sides = [frame.loc[both, seeds] for frame in frames]
        finite = np.isfinite(np.stack([side.to_numpy() for side in sides])).all(axis=(0, 1))
        shares = both.to_numpy(float) / max(both.max(), 1) if len(both) else np.empty(0)
        yield Pairs(shares, *(side.loc[:, finite] for side in sides))


def _gaps(pairs: list[Pairs], block: Block, margin: float) -> Iterator[dict[str, Any]]:
    """The mean difference (ours minus theirs) with Student's t interval at `SHARES` and at the points that are drawn.

    Between two evaluations the difference is interpolated linearly. A pair is a seed: over a grid, its mean over the
    settings, of seeds that have them all.
    """
    sign = 1.0 if block.goal == "max" else -1.0
    drawn = _thin(pairs[0].shares)
    shares = np.union1d(SHARES, drawn)
    differences = [sign * (pair.ours - pair.theirs) for pair in pairs]
    seeds = sorted(set.intersection(*(set(frame.columns) for frame in differences)))
    settings = [
        np.stack([np.interp(shares, pair.shares, frame[seed]) for seed in seeds], axis=1)
        for pair, frame in zip(pairs, differences, strict=True)
        if seeds
    ]
    if not settings:
        return
    values = np.mean(settings, axis=0)  # (shares, seeds)
    mean, n = values.mean(axis=1), len(seeds)
    half = np.full(len(shares), np.nan)
    if n > 1:
        half = stats.t.ppf(0.5 + LEVEL / 2, n - 1) * values.std(axis=1, ddof=1) / np.sqrt(n)
    least, most = quantity(block.metric).bounds
    low, high = np.maximum(mean - half, least - most), np.minimum(mean + half, most - least)
    for place, share in enumerate(shares):
        ends = sorted([sign * low[place] / margin, sign * high[place] / margin])
        yield (
            {"n": n, "share": share, "difference": mean[place], "low": low[place], "high": high[place]}
            | {"margins": sign * mean[place] / margin, "margins_low": ends[0], "margins_high": ends[1]}
            | {"named": share in SHARES, "drawn": share in drawn}
        )


def _thin(shares: Array) -> Array:
    if len(shares) <= MOST:
        return shares
    places: NDArray[np.int64] = np.round(np.linspace(0, len(shares) - 1, MOST)).astype(int)
    return np.asarray(shares[places])


def _verdict(gaps: list[dict[str, Any]]) -> str:
    """What the gap did: `still behind`, `only slower`, `level` (never clearly behind), or `unclear`.

    `no margin` where the study fixed none for the metric.
    """
    if not gaps or np.isnan(gaps[-1]["margins"]):
        return "no margin" if gaps else "unclear"
    end = gaps[-1]
    if end["margins_high"] < LEVEL_WITH:
        return "still behind"
    if end["margins_low"] > LEVEL_WITH:
        way = min(row["margins"] for row in gaps if row["share"] in SHARES[:-1])
        return "only slower" if way < BEHIND else "level"
    return "unclear"


def pace(pairs: list[Pairs], margin: float) -> dict[str, Any]:
    """The steps that a variant needs to come within `margin` of what the baseline ends with, over the baseline's.

    Without the margin, noise would keep half of all equal variants from reaching the baseline's last value.

    factor: median over seeds; infinite if half of them do not get there within the run. at_least: where it is infinite,
    what it exceeds: the median in which each seed that does not get there counts as if it did in the last step. low,
    high: interval of the median (`median_interval`); low is a lower limit in the same sense, high is infinite where too
    many seeds do not get there. n: seeds. reached: how many get there. Over a grid a seed counts with the geometric
    mean over its settings.
    """
    logs, bounds = [], []
    for shares, ours, theirs in pairs:
        factors, limits = {}, {}
        for seed in ours.columns:
            target = float(theirs[seed].iloc[-1]) - margin
            needed = _reached(shares, theirs[seed].to_numpy(float), target)
            factors[seed] = np.log(_reached(shares, ours[seed].to_numpy(float), target) / needed)
            limits[seed] = factors[seed] if np.isfinite(factors[seed]) else -np.log(needed)
        logs.append(pd.Series(factors, dtype=float))
        bounds.append(pd.Series(limits, dtype=float))
    # A seed that some setting does not have is NaN.
    seeds, least = (pd.concat(parts, axis=1).mean(axis=1, skipna=False).dropna() for parts in (logs, bounds))
    factor = float(np.exp(np.median(seeds))) if len(seeds) else np.nan
    low, high = np.exp([median_interval(least.to_numpy())[0], median_interval(seeds.to_numpy())[1]])
    return {
        "n": len(seeds),
        "reached": int(np.isfinite(seeds).sum()),
        "factor": factor,
        "low": float(low),
        "high": float(high),
        "at_least": float(np.exp(least.median())) if np.isinf(factor) else np.nan,
    }


def _reached(shares: Array, values: Array, target: float) -> float:
    """The share of the steps at which a curve first reaches `target`, linear between evaluations; inf if it does not.

    A curve that is there at its first evaluation counts as having got there at that moment.
    """
    there = values >= target
    if not there.any():
        return np.inf
    place = int(np.argmax(there))
    if place == 0:
        return float(shares[0])
    part = (target - values[place - 1]) / (values[place] - values[place - 1])
    return float(shares[place - 1] + part * (shares[place] - shares[place - 1]))


def median_interval(values: Array) -> tuple[float, float]:
    """An interval of the median between two of the values, whatever their distribution; values may be infinite.

    The k-th smallest and the k-th largest value, with the largest k for which the coverage is at least 95 %; with fewer
    than 6 values the smallest and the largest, which cover 1 − 2^(1−n). NaN with fewer than two. Source: David &
    Nagaraja, Order Statistics (2003), section 7.1.
    """
    n = len(values)
    if n < 2:
        return np.nan, np.nan
    place = max(int(stats.binom.ppf((1 - LEVEL) / 2, n, 0.5)), 1)  # P(fewer than k of n below the median) ≤ 2.5 %
    ordered = np.sort(values)
    return float(ordered[place - 1]), float(ordered[n - place])
