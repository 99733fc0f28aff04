"""A scaling law of several variants, fitted to their losses, with intervals over seeds.

    L = E + A / (m·N)^α + B / D^β        (Hoffmann et al. 2022, arXiv 2203.15556, equation 2)

N: parameters without embeddings and head. D: tokens. m: what a parameter of a variant is worth in parameters of the
baseline, which has m = 1; the variants share the rest. Such an effective number of parameters is that of Clark et al.
2022 (arXiv 2202.01169) and Frantar et al. 2023 (arXiv 2309.08520).

The fit is least squares on log L, from several starts. A Huber loss, as in the first paper, guards against outliers;
here the points are means over seeds, without the runs that diverged.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from kvformer.analysis.statistics import LEVEL, SEED, Array
from kvformer.analysis.verdicts import FEWEST

NAMES = ("E", "A", "alpha", "B", "beta")
EXPONENTS, WORTH = (1e-3, 3.0), (1e-3, 1e3)
"""Where α and β, and m, are sought. Losses that do not depend on size do not tell m."""
SMALLEST = 1e-3
"""E, and each of the two terms, are at least this share of the least loss, in the middle of the points."""
RESAMPLES = 300
"""Bootstrap samples where there are too many to take each of them once."""


class Points(NamedTuple):
    """What a law is fitted to. parameters N, tokens D, variant: (points,); variant 0 is the baseline.

    losses: (points, seeds), NaN where there is none.
    """

    parameters: Array
    tokens: Array
    variant: np.ndarray
    losses: Array

    @property
    def variants(self) -> int:
        """Number of variants."""
        return int(self.variant.max()) + 1

    def where(self, chosen: np.ndarray) -> "Points":
        """Those points."""
        return Points(*(column[chosen] for column in self))


@dataclass(frozen=True)
class Law:
    """A fitted law: its constants E, A, α, B, β, and m of each variant (1 for the baseline, NaN where unknown)."""

    constants: Array
    worth: Array

    def loss(self, parameters: Array, tokens: Array, variant: np.ndarray) -> Array:
        """The predicted loss, (points,)."""
        floor, size, alpha, data, beta = self.constants
        effective = self.worth[variant] * parameters
        return np.asarray(floor + size * effective**-alpha + data * tokens**-beta)

    @property
    def logs(self) -> Array:
        """The logarithms of constants and of m, as one vector."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.concatenate([self.constants, self.worth])))


def fit(points: Points, losses: Array, variants: int, start: Law | None = None) -> Law:
    """The law that fits best to these losses, one per point.

    variants: their number; of one without a point, m is unknown. start: where the search begins, instead of several
    places.
    """
    problem = _Problem(points, losses, variants)
    starts = [problem.vector(start)] if start else problem.starts()
    best = min((problem.solve(vector) for vector in starts), key=_cost)
    return problem.law(np.asarray(best.x))


def _cost(solution: optimize.OptimizeResult) -> float:
    return float(solution.cost)


class _Problem:
    """Least squares in θ = (log E, log of the size term and of the data term at the middle of the points, α, β, log m).

    With the terms at the middle instead of A and B, the parameters of the search hardly depend on each other.
    """

    def __init__(self, points: Points, losses: Array, variants: int) -> None:
        self.variant, self.variants = points.variant, variants
        self.log_loss, self.least = np.log(losses), float(losses.min())
        self.excess = float(losses.mean())
        sizes, tokens = np.log(points.parameters), np.log(points.tokens)
        self.middle = float(sizes.mean()), float(tokens.mean())
        self.size, self.data = sizes - self.middle[0], tokens - self.middle[1]
        self.others = np.eye(variants)[self.variant][:, 1:]  # (points, variants - 1)

    def starts(self) -> Iterator[Array]:
        """Places to begin: a share of the least loss as E, the rest shared by both terms, all m 1."""
        for share, alpha, beta in itertools.product((0.2, 0.5, 0.9), (0.2, 0.8), (0.2, 0.8)):
            rest = math.log((self.excess - share * self.least) / 2)
            yield np.array([math.log(share * self.least), rest, rest, alpha, beta, *[0.0] * (self.variants - 1)])

    def solve(self, start: Array) -> optimize.OptimizeResult:
        """Go downhill from there."""
        low, high = np.full(len(start), math.log(SMALLEST * self.least)), np.full(len(start), np.inf)
        low[3:5], high[3:5] = EXPONENTS
        low[5:], high[5:] = np.log(WORTH)
        high[0] = math.log(self.least)
        inside = np.clip(start, low + 1e-9, high - 1e-9)
        return optimize.least_squares(self._residuals, inside, self._jacobian, bounds=(low, high), x_scale="jac")

    def _terms(self, theta: Array) -> tuple[Array, Array, Array]:
        worth = self.others @ theta[5:]
        size, data = np.exp(theta[1] - theta[3] * (self.size + worth)), np.exp(theta[2] - theta[4] * self.data)
        return worth, size, data

    def _residuals(self, theta: Array) -> Array:
        _, size, data = self._terms(theta)
        return np.asarray(np.log(math.exp(theta[0]) + size + data) - self.log_loss)

    def _jacobian(self, theta: Array) -> Array:
        worth, size, data = self._terms(theta)
        floor = np.full(len(size), math.exp(theta[0]))
        columns = [floor, size, data, -size * (self.size + worth), -data * self.data]
        slopes = np.column_stack([*columns, -theta[3] * size[:, None] * self.others])
        return np.asarray(slopes / (floor + size + data)[:, None])

    def law(self, theta: Array) -> Law:
        """The law with these parameters."""
        floor, size, data, alpha, beta = theta[:5]
        logs = (floor, size + alpha * self.middle[0], data + beta * self.middle[1])
        floor, size, data = np.exp(logs)
        worth = np.exp([0.0, *theta[5:]])
        worth[np.setdiff1d(np.arange(self.variants), self.variant)] = np.nan
        return Law(np.array([floor, size, alpha, data, beta]), worth)

    def vector(self, law: Law) -> Array:
        """The parameters of a law."""
        floor, size, alpha, data, beta = law.constants
        logs = np.log([floor, size, data]) - np.array([0, alpha * self.middle[0], beta * self.middle[1]])
        return np.array([*logs, alpha, beta, *np.log(np.nan_to_num(law.worth[1:], nan=1.0))])


def paired_means(points: Points, weights: Array | None = None) -> Array:
    """The loss of each point: the baseline's mean over seeds plus the mean of the differences to it, by seed.

    Without missing runs that is the mean over seeds. A seed that one side does not have makes no difference this way.
    weights: of the seeds, (seeds,).
    """
    weights = np.ones(points.losses.shape[1]) if weights is None else weights
    base = _baseline(points)
    return _weighted(base, weights) + _weighted(points.losses - base, weights)


def _baseline(points: Points) -> Array:
    """The baseline's losses at each point: at the same place among its variants, as points are a full table."""
    count = int((points.variant == 0).sum())
    return np.tile(points.losses[points.variant == 0], (len(points.variant) // max(count, 1), 1))


def _weighted(values: Array, weights: Array) -> Array:
    known = np.isfinite(values)
    total = (known * weights).sum(axis=1)
    summed = np.where(known, values, 0.0) @ weights
    return np.where(total > 0, summed / np.where(total > 0, total, 1), np.nan)


def resamples(seeds: int) -> tuple[Array, Array]:
    """Bootstrap samples of `seeds` seeds as numbers of draws (samples, seeds), and how likely each is (samples,).

    With up to five seeds these are all samples, otherwise `RESAMPLES` drawn ones.
    """
    if math.comb(2 * seeds - 1, seeds) > RESAMPLES:
        drawn = np.random.default_rng(SEED).multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
        return drawn.astype(float), np.full(RESAMPLES, 1 / RESAMPLES)
    picks = itertools.combinations_with_replacement(range(seeds), seeds)
    counts = np.array([np.bincount(pick, minlength=seeds) for pick in picks], dtype=float)
    return counts, stats.multinomial.pmf(counts, seeds, np.full(seeds, 1 / seeds))


def intervals(points: Points, statistic: Callable[[Array], Array], found: Array) -> tuple[Array, Array]:
    """95 % intervals over seeds of what `statistic` computes from the losses of the points; NaN with two seeds or less.

    Seeds are drawn with replacement, the same ones for all variants and sizes (paired bootstrap). From few seeds its
    percentiles are too narrow: with 3 seeds they are about the lowest and the highest (75 % coverage). So its standard
    error is used, corrected by √(n/(n-1)), with Student's t for n - 1 degrees of freedom (Hesterberg 2015, arXiv
    1411.5279).

    found: what it computes from all seeds.
    """
    seeds = points.losses.shape[1]
    if seeds < FEWEST:
        unknown = np.full(len(found), np.nan)
        return unknown, unknown
    counts, chances = resamples(seeds)
    drawn = np.array([statistic(paired_means(points, count)) for count in counts])
    known = np.isfinite(drawn) & (chances > 0)[:, None]
    weights = known * chances[:, None]
    with np.errstate(invalid="ignore"):
        weights = weights / weights.sum(axis=0)
        values = np.where(known, drawn, 0.0)
        mean = (weights * values).sum(axis=0)
        variance = (weights * np.where(known, values - mean, 0.0) ** 2).sum(axis=0)
        error = np.sqrt(variance * seeds / (seeds - 1))
        half = float(stats.t.ppf(0.5 + LEVEL / 2, seeds - 1)) * error
        return found - half, found + half
