"""A 95 % interval keeps its promise: in simulation it contains the true value in 93 to 97 % of experiments."""

from collections.abc import Callable

import numpy as np
import pytest
from pairs import comparison
from scipy import stats

from kvformer.analysis import statistics as s
from kvformer.analysis.decisions import judge

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "laplace": (lambda rng, size: rng.laplace(size=size), 0.0),
    "uniform": (lambda rng, size: rng.random(size), 0.5),
}
EXPERIMENTS = 4000
"""The standard error of a coverage of 95 % is then 0.35 points."""


def share_inside(lows: list[float], highs: list[float], truth: float) -> float:
    return float(np.mean((np.array(lows) <= truth) & (truth <= np.array(highs))))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("n", [5, 6, 8, 10])
def test_interval_of_a_mean(name: str, n: int) -> None:
    draw, truth = DISTRIBUTIONS[name]
    found = [s.estimate([row]) for row in draw(np.random.default_rng(n), (EXPERIMENTS, n))]
    assert 0.93 <= share_inside([e.low for e in found], [e.high for e in found], truth) <= 0.97


@pytest.mark.parametrize("shared", [0.0, 0.6, 0.95])
@pytest.mark.parametrize("spread", [(1.0, 1.0, 1.0, 1.0), (0.2, 0.5, 1.0, 2.0)])
def test_interval_of_a_mean_over_settings(spread: tuple[float, ...], shared: float) -> None:
    """The settings' values of one seed may be alike (correlation `shared`): they start from the same weights."""
    rng = np.random.default_rng(5)
    own, common = rng.normal(size=(EXPERIMENTS, 4, 5)), rng.normal(size=(EXPERIMENTS, 1, 5))
    samples = (np.sqrt(1 - shared) * own + np.sqrt(shared) * common) * np.array(spread)[:, None]
    means = np.arange(4.0)
    found = [s.estimate(list(experiment + means[:, None])) for experiment in samples]
    assert 0.93 <= share_inside([e.low for e in found], [e.high for e in found], means.mean()) <= 0.97


def words(variants: np.ndarray, margin: float | None) -> list[str]:
    """The verdicts on differences (variants, tasks, seeds), each variant a family of its own."""
    found = [
        comparison(list(pairs), f"task{task}", f"variant{variant}", "min", margin)
        for variant, tasks in enumerate(variants)
        for task, pairs in enumerate(tasks)
    ]
    return list(judge(found)["verdict"])


def test_verdicts_on_equal_variants_are_rarely_wrong() -> None:
    """Without a margin, better or worse may be said of equals in 5 % of families. Six seeds: the t test."""
    verdicts = words(np.random.default_rng(9).normal(size=(120, 6, 6)), None)
    wrong = np.isin(verdicts, ["better", "worse"]).reshape(120, 6).any(axis=1)
    assert wrong.mean() < 0.1


def test_equivalence_is_rarely_claimed_at_the_margin() -> None:
    """Of a family of differences at the margin, one or more is called equivalent in 5 % at most."""
    verdicts = words(np.random.default_rng(10).normal(1.0, 0.2, size=(100, 6, 6)), 1.0)
    assert np.isin(verdicts, ["equivalent"]).reshape(100, 6).any(axis=1).mean() < 0.08


@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_wilson_interval(rate: float) -> None:
    n = 30
    intervals = np.array([s.wilson_interval(successes, n) for successes in range(n + 1)])
    inside = (intervals[:, 0] <= rate) & (rate <= intervals[:, 1])
    assert 0.93 <= stats.binom.pmf(np.arange(n + 1), n, rate)[inside].sum() <= 0.97


def test_plain_bootstrap_is_too_narrow_for_few_seeds() -> None:
    """Why Student's t is the default: with 5 seeds the BCa interval misses the mean more than twice as often."""
    rows = np.random.default_rng(2).normal(size=(400, 5))
    found = [s.bootstrap_interval([row]) for row in rows]
    assert share_inside([low for low, _ in found], [high for _, high in found], 0.0) < 0.9


def test_aggregate_intervals() -> None:
    """IQM and probability of improvement over 5 tasks with 5 paired seeds."""
    rng = np.random.default_rng(4)
    means, spread, gain = np.linspace(0.3, 0.95, 5)[:, None], 0.03, 0.02
    iqm = float(s.interquartile_mean([mean + spread * rng.normal(size=200_000) for mean in means[:, 0]]))
    improvement = float(stats.norm.cdf(gain / (spread * np.sqrt(2))))
    found = []
    for _ in range(700):
        shared = rng.normal(size=(5, 5))
        runs = [means + spread * (0.7 * shared + np.sqrt(0.51) * rng.normal(size=(5, 5))) for _ in range(2)]
        found.append(s.aggregate(list(runs[0] + gain), list(runs[1]), resamples=400))
    assert 0.92 <= share_inside([f.iqm_low for f in found], [f.iqm_high for f in found], iqm + gain) <= 0.98
    lows, highs = [f.improvement_low for f in found], [f.improvement_high for f in found]
    assert 0.92 <= share_inside(lows, highs, improvement) <= 0.98
