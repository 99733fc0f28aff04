"""Statistics against known values and against SciPy."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kvformer.analysis import statistics as s


def test_one_group_is_students_interval() -> None:
    values = [0.91, 0.95, 0.93, 0.97, 0.90]
    found = s.estimate([values])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.mean, found.n, found.freedom) == (pytest.approx(0.932), 5, pytest.approx(4))
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_over_a_grid_a_seed_is_one_observation() -> None:
    """Runs of one seed in two settings start from the same weights: they are averaged, not counted twice."""
    a, b = np.array([1.0, 2.0, 4.0, 3.5]), np.array([-2.0, -2.5, -3.9, -1.0])
    found, expected = s.estimate([a, b]), stats.ttest_1samp((a + b) / 2, 0)
    assert (found.n, found.freedom) == (8, 3)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    twice = s.estimate([a, a])
    assert twice[:3] == s.estimate([a])[:3] and twice.freedom == 3


def test_seeds_that_lack_a_setting_count_in_the_mean_but_not_in_the_spread() -> None:
    a = pd.Series([1.0, 2.0, 4.0], index=[0, 1, 2])
    b = pd.Series([5.0, 3.0], index=[2, 1])
    assert s.by_seed([a, b]).to_dict() == {1: 2.5, 2: 4.5}
    found = s.estimate([a, b])
    assert (found.mean, found.n, found.freedom) == (pytest.approx((7 / 3 + 4) / 2), 5, 1)


def test_settings_count_equally_whatever_their_number_of_runs() -> None:
    assert s.estimate([[0.0] * 9, [1.0, 1.0]]).mean == pytest.approx(0.5)


def test_a_single_run_has_no_interval_and_equal_runs_one_of_no_width() -> None:
    single = s.estimate([[0.5], [0.6, 0.7]])
    assert single.mean == pytest.approx(0.575) and math.isnan(single.low)
    equal = s.estimate([[1.0, 1.0, 1.0]])
    assert (equal.low, equal.high, equal.error) == (1.0, 1.0, 0.0)
    rounding = s.estimate([[0.1 + 0.2 - 0.3 + 1, 1.0, 1.0]])
    assert rounding.error == 0
    assert s.estimate([]).n == 0 and math.isnan(s.estimate([[]]).mean)


def test_the_level_of_an_interval() -> None:
    values = [0.91, 0.95, 0.93, 0.97, 0.90]
    found, expected = s.estimate([values], level=0.98), stats.ttest_1samp(values, 0).confidence_interval(0.98)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_bounds_cut_the_interval_only() -> None:
    free, cut = s.estimate([[0.1, 0.99, 0.98]]), s.estimate([[0.1, 0.99, 0.98]], (0, 1))
    assert free.high > 1 and cut.high == 1 and free.low < 0 and cut.low == 0
    assert free.mean == cut.mean


def test_bootstrap_is_seeded_and_agrees_with_t_for_many_runs() -> None:
    values = np.random.default_rng(3).normal(size=300)
    low, high = s.bootstrap_interval([values])
    assert (low, high) == s.bootstrap_interval([values])
    found = s.estimate([values])
    assert (low, high) == (pytest.approx(found.low, abs=0.02), pytest.approx(found.high, abs=0.02))
    assert s.bootstrap_interval([[2.0, 2.0]]) == (2.0, 2.0)
    assert all(map(math.isnan, s.bootstrap_interval([[1.0]])))


def test_spreads_keep_seeds_and_settings_apart() -> None:
    seeds, configurations = s.spreads([[0.0, 0.2], [1.0, 1.2]])
    assert seeds == pytest.approx(np.std([0, 0.2], ddof=1))
    assert configurations == pytest.approx(np.std([0.1, 1.1], ddof=1))
    assert math.isnan(s.spreads([[1.0, 2.0]])[1]) and math.isnan(s.spreads([[1.0], [2.0]])[0])


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"), [(6, 6, 0.6097, 1.0), (0, 6, 0.0, 0.3903), (9, 10, 0.5958, 0.9821)]
)
def test_wilson_known_values(successes: int, n: int, low: float, high: float) -> None:
    assert s.wilson_interval(successes, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_holm_known_values_and_nan() -> None:
    assert s.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert s.holm([0.01, math.nan, 0.03]) == pytest.approx([0.02, math.nan, 0.03], nan_ok=True)
    assert s.holm([]).size == 0 and s.holm([0.6, 0.5]).tolist() == [1.0, 1.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    assert s.holm(p).tolist() == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_effect_size() -> None:
    assert s.cohens_dz([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert math.isnan(s.cohens_dz([1.0, 1.0]))


def test_iqm_is_the_trimmed_mean() -> None:
    tasks = [np.array([0.0, 1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0, 100.0])]
    assert float(s.interquartile_mean(tasks)) == pytest.approx(np.mean([2, 3, 4, 5]))
    assert float(s.interquartile_mean(tasks)) == pytest.approx(stats.trim_mean(np.concatenate(tasks), 0.25))


def test_probability_of_improvement_is_the_mann_whitney_share() -> None:
    x, y = np.array([1.0, 3.0, 5.0]), np.array([2.0, 3.0, 0.0])
    share = stats.mannwhitneyu(x, y).statistic / 9
    assert float(s.probability_of_improvement([x], [y])) == pytest.approx(share)
    assert float(s.probability_of_improvement([x, y], [y, x])) == pytest.approx(0.5)


def test_aggregate_contains_its_points_and_is_seeded() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = ([rng.normal(mean, 0.1, 5) for mean in means] for means in ((0.5, 0.7, 0.9), (0.4, 0.7, 0.8)))
    found = s.aggregate(ours, theirs)
    assert found == s.aggregate(ours, theirs)
    assert found.iqm_low < found.iqm < found.iqm_high
    assert found.improvement_low < found.improvement < found.improvement_high
    assert math.isnan(s.aggregate([[0.5]], [[0.4]]).iqm_low)
