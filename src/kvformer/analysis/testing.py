"""Tests of paired differences as plain arithmetic: p values, interim looks, and closed testing.

Differences are signed so that positive is better. Arrays have the shape (..., seeds); leading axes (tasks, simulated
studies) are kept, and one row of differences gives one number. The rule that uses these p values is in `decisions`.
"""

from collections.abc import Sequence
from math import log2
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from kvformer.analysis.statistics import ROUNDING, SEED

Array = NDArray[np.float64]
Values: TypeAlias = Any
"""A float for one row of differences, an array for several."""

EXACT_UP_TO = 30
"""Number of pairs up to which the sign-flip test counts all 2^n signs."""
SAMPLED_SIGNS = 100_000
"""Number of signs drawn, from a fixed seed, for more pairs than that."""


def cleaned(differences: ArrayLike) -> Array:
    """The differences with those that are due to rounding set to zero."""
    values = np.asarray(differences, dtype=float)
    largest = np.abs(values).max(axis=-1, keepdims=True, initial=1.0)
    return np.where(np.abs(values) <= ROUNDING * largest, 0.0, values)


def sign_flip_p(differences: ArrayLike) -> Values:
    """Two-sided p of the sign-flip test that the differences are symmetric about zero; NaN without pairs.

    The share of the 2^n signs with |Σ ε_s d_s| >= |Σ d_s| (Fisher 1935). It is never below 2^(1-n).
    """
    values = cleaned(differences)
    n = values.shape[-1]
    if n == 0:
        return np.full(values.shape[:-1], np.nan)[()]
    rows = values.reshape(-1, n)
    counted = _exact_share if n <= EXACT_UP_TO else _sampled_share
    return np.array([counted(row) for row in rows]).reshape(values.shape[:-1])[()]


def _exact_share(row: Array) -> float:
    """Sums of both halves of the row are combined, so that 2^(n/2) sums are sorted instead of 2^n."""
    observed = _threshold(row)
    if observed <= 0:
        return 1.0
    half = row.size // 2
    left, right = _all_sums(row[:half]), np.sort(_all_sums(row[half:]))
    # Signs and their opposites give opposite sums, so both tails hold equally many.
    upper = (right.size - np.searchsorted(right, observed - left)).sum()
    return float(2 * upper / 2**row.size)


def _sampled_share(row: Array) -> float:
    signs = np.random.default_rng(SEED).choice([-1.0, 1.0], size=(SAMPLED_SIGNS - 1, row.size))
    return float((1 + (np.abs(signs @ row) >= _threshold(row)).sum()) / SAMPLED_SIGNS)


def _threshold(row: Array) -> float:
    """What a sum has to reach in order to count as extreme: the observed one, less what rounding can change."""
    return float(abs(row.sum()) - ROUNDING * np.abs(row).sum())


def _all_sums(values: Array) -> Array:
    """The 2^n sums of the values with all signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def t_p(differences: ArrayLike) -> Values:
    """Two-sided p of Student's t test that the mean is zero; it assumes normal differences. NaN with less than 2 pairs.

    Without spread there is nothing to estimate: p is 1 for a mean of zero, and for others that of the sign-flip test.
    """
    values, mean, error = _moments(differences)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(mean) / error, values.shape[-1] - 1)
    return np.where(error == 0, _without_spread(mean != 0, values), p)[()]


def not_worse_p(differences: ArrayLike, margin: float) -> Values:
    """One-sided p of the t test that the mean is at most −margin. To be compared with alpha / 2."""
    values, mean, error = _moments(differences)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.t.sf((mean + margin) / error, values.shape[-1] - 1)
    return np.where(error == 0, _without_spread(mean > -margin, values), p)[()]


def equivalence_p(differences: ArrayLike, margin: float) -> Values:
    """The larger p of two one-sided t tests, that the mean is at most −margin and that it is at least margin.

    Compared with alpha / 2, it says the same as whether the interval of level 1 − alpha lies inside ± margin
    (Schuirmann 1987, at half the usual level so that the word never contradicts the interval).
    """
    values = np.asarray(differences, dtype=float)
    return np.maximum(not_worse_p(values, margin), not_worse_p(-values, margin))[()]


def _moments(differences: ArrayLike) -> tuple[Array, Array, Array]:
    """Cleaned differences, their mean and its standard error: 0 where they are equal, NaN with less than 2 pairs."""
    values = cleaned(differences)
    n = values.shape[-1]
    if n < 2:
        unknown = np.full(values.shape[:-1], np.nan)
        return values, unknown, unknown
    mean, error = values.mean(axis=-1), values.std(axis=-1, ddof=1) / np.sqrt(n)
    return values, mean, np.where(error <= ROUNDING * np.maximum(1.0, np.abs(mean)), 0.0, error)


def _without_spread(rejected: NDArray[np.bool_], values: Array) -> Array:
    return np.where(rejected, 2.0 ** (1 - values.shape[-1]), 1.0)


def can_decide(n: int, m: int, alpha: float) -> bool:
    """Whether the smallest p of the sign-flip test with n pairs, 2^(1-n), passes Holm's first step in a family of m.

    alpha: the level; of a look, the study's level times the look's weight.
    """
    return n >= 1 + log2(m / alpha)


def simes_count(p_values: ArrayLike, alpha: float) -> int:
    """A lower bound on how many of the hypotheses are false, wrong with probability alpha at most (NaN counts as 1).

    Closed testing with Simes' test (Goeman & Solari 2011): m − max{s : min_i (s/i)·p_(i) > alpha over the s largest p}.
    It assumes what Simes' test assumes: independent or positively dependent p.
    """
    p = np.sort(np.nan_to_num(np.asarray(p_values, dtype=float), nan=1.0))
    sizes = range(1, p.size + 1)
    kept = [size for size in sizes if (size / np.arange(1, size + 1) * p[p.size - size :]).min() > alpha]
    return p.size - max(kept, default=0)


def combine_looks(p_by_look: ArrayLike, weights: Sequence[float]) -> Values:
    """One p over the interim looks so far, min_k p_k / w_k, at most 1. It may be looked at again after every look.

    p_by_look: (looks so far, ...), NaN at looks for which a comparison got no seeds; NaN where it is at all of them.
        weights: of all planned looks, with the sum 1.
    """
    p = np.asarray(p_by_look, dtype=float)
    shares = np.asarray(weights[: len(p)], dtype=float).reshape(-1, *[1] * (p.ndim - 1))
    return np.minimum(np.fmin.reduce(p / shares, axis=0), 1.0)[()]


def look_level(weights: Sequence[float], look: int, alpha: float) -> float:
    """The level of the interval that is drawn at a look (counted from 1), so that all of them hold at level 1 − alpha.

    Repeated confidence intervals (Jennison & Turnbull 1989), here by the union bound.
    """
    return 1 - alpha * weights[look - 1]
