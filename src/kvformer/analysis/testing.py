"""Tests of paired differences as plain arithmetic: p values, interim looks, and closed testing.

Differences are signed so that positive is better. Arrays have the shape (..., seeds); leading axes (tasks, simulated
studies) are kept, and one row of differences gives one number. The rule that uses these p values is in `decisions`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from kvformer.analysis.statistics import ROUNDING, SEED
from kvformer.analysis.verdicts import seeds_needed

Array = NDArray[np.float64]
Values: TypeAlias = Any
"""A float for one row of differences, an array for several."""

EXACT_UP_TO = 30
"""Number of pairs up to which the sign-flip test counts all 2^n signs."""
CHUNK = 2**20
"""Number of sums that are held in memory at a time."""
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
    shares = _exact_shares(rows) if n <= EXACT_UP_TO else np.array([_sampled_share(row) for row in rows])
    return shares.reshape(values.shape[:-1])[()]


def _exact_shares(rows: Array) -> Array:
    """Sums of both halves of a row are combined, so that 2^(n/2) sums are sorted instead of 2^n."""
    n, size = rows.shape[1], rows.shape[1] // 2
    observed, left, right = _threshold(rows), _all_signs(size), _all_signs(n - size)
    shares = np.ones(len(rows))
    for start in range(0, len(rows), step := max(CHUNK // len(right), 1)):
        part = slice(start, start + step)
        # Sorted values are looked up faster, because neighbours are near in memory.
        needed = np.sort(observed[part, None] - rows[part, :size] @ left.T)
        others = np.sort(rows[part, size:] @ right.T)
        below = [found.searchsorted(least).sum() for found, least in zip(others, needed, strict=True)]
        # Signs and their opposites give opposite sums, so both tails hold equally many.
        shares[part] = 2 * (needed.shape[1] * others.shape[1] - np.array(below)) / 2.0**n
    return np.where(observed > 0, shares, 1.0)


def _sampled_share(row: Array) -> float:
    signs = np.random.default_rng(SEED).choice([-1.0, 1.0], size=(SAMPLED_SIGNS - 1, row.size))
    return float((1 + (np.abs(signs @ row) >= _threshold(row)).sum()) / SAMPLED_SIGNS)


def _threshold(rows: Array) -> Array:
    """What a sum has to reach in order to count as extreme: the observed one, less what rounding can change."""
    return np.asarray(np.abs(rows.sum(axis=-1)) - ROUNDING * np.abs(rows).sum(axis=-1))


@cache
def _all_signs(n: int) -> Array:
    """The 2^n ways to choose n signs, of shape (2^n, n)."""
    bits = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return np.where(bits, -1.0, 1.0)


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
    """Whether the sign-flip test with n pairs can decide in a family of m (`verdicts.seeds_needed`)."""
    return n >= seeds_needed(m, alpha)


def adjust_family(p_values: ArrayLike, solved: ArrayLike, alpha: float) -> Array:
    """Adjusted p of all statements on one variant: with probability 1 − alpha, none of them is false.

    Of the hypotheses on a task (no difference; worse by the margin or more; better by the margin or more) at most one
    is true, because they exclude each other (three-sided testing: Goeman, Solari & Stijnen 2010). So each may use alpha
    over the number of tasks that are not settled. A task is settled if both sides solve it, so that nothing is stated
    about it, or once all its hypotheses are rejected: it differs, and is equivalent all the same.

    Args:
        p_values: (kinds, ..., tasks). The first kind is the two-sided p of a difference; then one-sided ones, of
            equivalence and of *not worse*, which are compared with alpha / 2. A hypothesis without p (NaN) counts.
        solved: (..., tasks), whether both sides solve the task.
        alpha: of the family. Which tasks are settled depends on it, so adjusted p are to be compared with it only.
    """
    p = np.nan_to_num(np.asarray(p_values, dtype=float), nan=1.0)
    settled = solved = np.broadcast_to(np.asarray(solved, dtype=bool), p.shape[1:])
    while True:
        unsettled = np.maximum((~settled).sum(axis=-1, keepdims=True), 1)
        half = np.maximum(unsettled / 2, 1)
        adjusted = np.minimum(p * np.stack([unsettled, *[half] * (len(p) - 1)]), 1.0)
        now = solved | ((adjusted[0] <= alpha) & (adjusted[1] <= alpha / 2))
        if (now == settled).all():
            return np.asarray(np.where(solved, 1.0, adjusted))
        settled = now


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
