"""Statistics on runs as plain values: intervals, Holm's adjustment, an effect size, aggregates over tasks.

Intervals of means are Student's t intervals. The bootstrap is an addition, not a replacement: for the mean of 5 to 10
seeds its nominal 95 % interval covers only 81 to 92 % (tests/analysis/test_coverage.py), the t interval 93 to 97 %.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95
RESAMPLES = 4999
SEED = 20230528
"""Bootstrap samples are drawn from this seed, so the same runs give the same intervals."""
ROUNDING = 1e-12
"""Relative size of differences that are due to rounding."""

Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A mean over settings of the mean over seeds, with its 95 % interval (NaN with fewer than two seeds).

    n: runs. error: standard error. freedom: degrees of freedom of the t distribution.
    """

    mean: float
    low: float
    high: float
    n: int
    error: float
    freedom: float

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval before it is cut."""
        return half_width(self.error, self.freedom, LEVEL)


def half_width(error: float, freedom: float, level: float) -> float:
    """Half the width of Student's t interval."""
    return float(stats.t.ppf(0.5 + level / 2, freedom)) * error


def by_seed(groups: Sequence[ArrayLike]) -> "pd.Series[float]":
    """The mean of each seed over the settings; only seeds that ran in all of them.

    groups: the runs of each setting, as Series by seed, or as arrays in which the place is the seed. The same seed in
        two settings starts from the same weights, so its runs are one observation, not two.
    """
    known = [pd.Series(group, dtype=float) for group in groups if np.size(group)]
    return pd.concat(known, axis=1).dropna().mean(axis=1) if known else pd.Series(dtype=float)


def estimate(
    groups: Sequence[ArrayLike], bounds: tuple[float, float] = (-np.inf, np.inf), level: float = LEVEL
) -> Estimate:
    """Mean of the group means with Student's t interval over seeds, cut to the `bounds` that a value can have.

    groups: the runs of each setting, as for `by_seed`; the settings are a fixed grid and count equally.
    """
    arrays = [np.asarray(group, dtype=float) for group in groups if np.size(group)]
    n = sum(array.size for array in arrays)
    nan = float("nan")
    if not arrays:
        return Estimate(nan, nan, nan, 0, nan, nan)
    mean = float(np.mean([array.mean() for array in arrays]))
    seeds = by_seed(groups).to_numpy()
    if seeds.size < 2:
        return Estimate(mean, nan, nan, n, nan, nan)
    error, freedom = float(seeds.std(ddof=1) / np.sqrt(seeds.size)), float(seeds.size - 1)
    # Values that differ by rounding only have no spread: a t statistic from them would be noise.
    if error <= ROUNDING * max(1.0, abs(mean)):
        return Estimate(mean, mean, mean, n, 0.0, freedom)
    half = half_width(error, freedom, level)
    return Estimate(mean, max(mean - half, bounds[0]), min(mean + half, bounds[1]), n, error, freedom)


def bootstrap_interval(groups: Sequence[ArrayLike]) -> tuple[float, float]:
    """BCa bootstrap interval of the mean over seeds (`by_seed`), drawn from a fixed seed."""
    seeds = by_seed(groups).to_numpy()
    if seeds.size < 2:
        return float("nan"), float("nan")
    if np.ptp(seeds) == 0:
        return float(seeds[0]), float(seeds[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = stats.bootstrap(
            (seeds,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="BCa",
            rng=np.random.default_rng(SEED),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def spreads(groups: Sequence[ArrayLike]) -> tuple[float, float]:
    """Standard deviation between seeds (pooled within settings) and between the settings' means; NaN where unknown."""
    arrays = [np.asarray(group, dtype=float) for group in groups if np.size(group)]
    freedom = sum(array.size - 1 for array in arrays)
    within = sum(float(((array - array.mean()) ** 2).sum()) for array in arrays)
    seeds = float(np.sqrt(within / freedom)) if freedom else float("nan")
    settings = float(np.std([array.mean() for array in arrays], ddof=1)) if len(arrays) > 1 else float("nan")
    return seeds, settings


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a success rate."""
    if n == 0:
        return float("nan"), float("nan")
    low, high = proportion_confint(successes, n, alpha=1 - LEVEL, method="wilson")
    return max(0.0, float(low)), min(1.0, float(high))


def holm(p_values: ArrayLike) -> Array:
    """Holm's adjustment over the last axis, of all p that are not NaN; NaN stays."""
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values, axis=-1, kind="stable")  # NaN last
    remaining = (~np.isnan(values)).sum(axis=-1, keepdims=True) - np.arange(values.shape[-1])
    ascending = np.maximum.accumulate(np.take_along_axis(values, order, -1) * remaining, axis=-1)
    adjusted = np.empty_like(values)
    np.put_along_axis(adjusted, order, np.minimum(ascending, 1.0), -1)
    return adjusted


def cohens_dz(differences: ArrayLike) -> float:
    """Mean paired difference in units of the differences' standard deviation; NaN without spread."""
    values = np.asarray(differences, dtype=float)
    if values.size < 2 or np.ptp(values) == 0:
        return float("nan")
    return float(values.mean() / values.std(ddof=1))


class Aggregate(NamedTuple):
    """A variant over all tasks: interquartile mean and probability of improvement on the baseline, with intervals."""

    iqm: float
    iqm_low: float
    iqm_high: float
    improvement: float
    improvement_low: float
    improvement_high: float


def interquartile_mean(tasks: Sequence[Array]) -> Array:
    """Mean of the middle half of all runs of all tasks: the 25 % trimmed mean (Agarwal et al. 2021).

    tasks: per task an array (..., runs); leading axes are kept.
    """
    return np.asarray(stats.trim_mean(np.concatenate(tasks, axis=-1), 0.25, axis=-1))


def probability_of_improvement(variant: Sequence[Array], baseline: Sequence[Array]) -> Array:
    """Mean over tasks of P(a run of `variant` is above one of `baseline`), ties counting half (Agarwal et al. 2021).

    variant, baseline: per task an array (..., runs); leading axes are kept.
    """
    shares = []
    for ours, theirs in zip(variant, baseline, strict=True):
        gap = ours[..., :, None] - theirs[..., None, :]
        shares.append(((gap > 0) + 0.5 * (gap == 0)).mean(axis=(-2, -1)))
    return np.asarray(np.mean(shares, axis=0))


def aggregate(variant: Sequence[ArrayLike], baseline: Sequence[ArrayLike], resamples: int = 2000) -> Aggregate:
    """IQM and probability of improvement of paired runs: one pair of equally long arrays (by seed) per task.

    Percentile intervals of a bootstrap that draws seeds within tasks, the same for both variants. With few seeds the
    plain bootstrap is too narrow, hence two corrections: of n seeds n - 1 are drawn (McCarthy & Snowden 1985), and the
    percentiles are those of a t distribution's tail (Hesterberg 2015).
    """
    ours = [np.asarray(values, dtype=float) for values in variant]
    theirs = [np.asarray(values, dtype=float) for values in baseline]
    freedom = sum(values.size - 1 for values in ours)
    iqm, improvement = float(interquartile_mean(ours)), float(probability_of_improvement(ours, theirs))
    if min(values.size for values in ours) < 2:
        return Aggregate(iqm, np.nan, np.nan, improvement, np.nan, np.nan)
    rng = np.random.default_rng(SEED)
    picks = [rng.integers(values.size, size=(resamples, values.size - 1)) for values in ours]
    ours = [values[pick] for values, pick in zip(ours, picks, strict=True)]
    theirs = [values[pick] for values, pick in zip(theirs, picks, strict=True)]
    tail = float(stats.norm.sf(stats.t.ppf((1 + LEVEL) / 2, freedom)))
    iqm_low, iqm_high = np.quantile(interquartile_mean(ours), [tail, 1 - tail])
    low, high = np.quantile(probability_of_improvement(ours, theirs), [tail, 1 - tail])
    return Aggregate(iqm, float(iqm_low), float(iqm_high), improvement, float(low), float(high))
