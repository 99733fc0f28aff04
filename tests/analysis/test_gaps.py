"""The gap over training and the factor of steps, on curves whose answers are known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kvformer.analysis.gaps import (
    MOST,
    Pairs,
    _decaying,
    _reached,
    _thin,
    _verdict,
    median_interval,
    pace,
    training_gaps,
)
from kvformer.analysis.results import Results
from kvformer.analysis.study import Study
from kvformer.records.study import RunEntry, StudyManifest, TaskEntry, VariantEntry

SHARES = np.array([0.25, 0.5, 0.75, 1.0])


def study(goal: str = "max", metric: str = "accuracy", margin: float | None = 0.01) -> Study:
    runs = [
        RunEntry(task="t", setting="default", variant=variant, seed=seed, hash="", path=f"{variant}{seed}")
        for variant in ("qkv", "kv")
        for seed in range(3)
    ]
    return Study(
        StudyManifest(
            name="s",
            protocol="corrected",
            baseline="qkv",
            equivalence_margin={} if margin is None else {metric: margin},
            variants=[VariantEntry(name="qkv"), VariantEntry(name="kv")],
            tasks=[TaskEntry.model_validate({"name": "t", "family": "synthetic", "metric": metric, "goal": goal})],
            runs=runs,
        )
    )


def tables(
    curves: dict[str, Any], of: Study, status: dict[tuple[str, int], str] | None = None, steps: int = 100
) -> dict[str, pd.DataFrame]:
    """curves: per variant (evaluations, seeds)."""
    task = of.tasks["t"]
    points, scores = [], []
    for variant, values in curves.items():
        for seed, curve in enumerate(np.asarray(values, dtype=float).T):
            keys = {"task": "t", "setting": "default", "variant": variant, "seed": seed}
            became = (status or {}).get((variant, seed), "finished")
            scores.append({**keys, "metric": f"test/{task.metric}", "goal": task.goal, "value": 0.5, "status": became})
            for place, value in enumerate(curve, 1):
                step = round(steps * place / len(curve))
                points.append({**keys, "metric": f"validation/{task.metric}", "step": step, "value": value})
                points.append({**keys, "metric": "train/learning_rate", "step": step, "value": 0.1 / place})
    return training_gaps(pd.DataFrame(scores), pd.DataFrame(points), of)


def test_the_gap_is_paired_by_seed_and_interpolated() -> None:
    base = np.array([[0.2, 0.3, 0.4], [0.4, 0.5, 0.6], [0.6, 0.7, 0.8], [0.7, 0.8, 0.9], [0.9, 0.9, 1.0]])
    gap = np.array([[-0.10], [-0.06], [-0.04], [-0.02], [-0.01]]) + np.array([-0.001, 0, 0.001])
    found = tables({"qkv": base, "kv": base + gap}, study())["gaps"].set_index("share")
    assert list(found.index) == [0.25, 0.5, 0.75, 1.0]
    expected = np.interp(found.index, [0.2, 0.4, 0.6, 0.8, 1], gap.mean(axis=1))
    np.testing.assert_allclose(found["difference"], expected)
    np.testing.assert_allclose(found["margins"], expected / 0.01)
    half = stats.t.ppf(0.975, 2) * 0.001 / np.sqrt(3)
    np.testing.assert_allclose(found["high"] - found["low"], 2 * half)
    np.testing.assert_allclose(found["margins_low"], (expected - half) / 0.01)
    assert (found["n"] == 3).all()


def test_where_less_is_better_margins_are_still_signed_so_that_more_is_better() -> None:
    base = np.array([[2.0, 2.1, 2.2], [1.8, 1.9, 2.0], [1.6, 1.7, 1.8], [1.5, 1.6, 1.7]])
    noise = np.array([0.001, 0, -0.001])
    found = tables({"qkv": base, "kv": base + 0.05 + noise}, study("min", "loss", 0.02))
    last = found["gaps"].iloc[-1]
    assert last["difference"] == pytest.approx(0.05) and last["margins"] == pytest.approx(-2.5)
    assert last["low"] < 0.05 < last["high"] and last["margins_low"] < -2.5 < last["margins_high"]
    (row,) = found["pace"].to_dict("records")
    assert row["verdict"] == "still behind" and row["factor"] == np.inf and row["reached"] == 0
    # The baseline comes within a margin of its end at 1 - 0.25 * 0.02 / 0.1 of its steps.
    assert row["at_least"] == pytest.approx(1 / 0.95)


def test_a_run_that_was_lost_has_no_pair_and_few_evaluations_have_no_verdict() -> None:
    base = np.linspace(0.2, 0.9, 4)[:, None] + np.array([0, 0.01, 0.02])
    of = study()
    found = tables({"qkv": base, "kv": base - 0.05}, of, {("kv", 1): "diverged", ("qkv", 2): "failed"})
    assert (found["gaps"]["n"] == 1).all() and found["gaps"]["low"].isna().all()
    assert found["pace"]["verdict"].item() == "unclear"
    few = tables({"qkv": base[1:], "kv": base[1:]}, of)
    assert few["gaps"].empty and few["pace"]["verdict"].item() == "too few evaluations"
    none = tables({"qkv": base, "kv": base}, of, {("kv", seed): "failed" for seed in range(3)})
    assert none["gaps"].empty and none["pace"].empty


def test_without_a_margin_there_are_units_and_no_verdict() -> None:
    base = np.linspace(0.2, 0.9, 4)[:, None] + np.array([0, 0.01, 0.02])
    found = tables({"qkv": base, "kv": base - [0.04, 0.05, 0.06]}, study(margin=None))
    assert found["gaps"]["margins"].isna().all() and found["gaps"]["difference"].iloc[-1] == pytest.approx(-0.05)
    assert found["pace"]["verdict"].item() == "no margin"


@pytest.mark.parametrize(("rates", "decays"), [([1.0, 1.0, 1.0], False), ([0.5, 1.0, 0.1], True), ([0.1, 1, 1], False)])
def test_a_falling_learning_rate_is_noticed(rates: list[float], decays: bool) -> None:
    rows = [
        {"task": "t", "setting": "a", "metric": "train/learning_rate", "step": i, "value": v}
        for i, v in enumerate(rates)
    ]
    assert ("t" in _decaying(pd.DataFrame(rows))) == decays


@pytest.mark.parametrize(
    ("way", "low", "high", "verdict"),
    [
        (-5.0, -9.0, -1.1, "still behind"),
        (-5.0, -9.0, -0.9, "unclear"),
        (-5.0, -0.9, 0.5, "only slower"),
        (-1.9, -0.9, 0.5, "level"),
        (-5.0, 2.0, 3.0, "only slower"),
        (0.0, np.nan, np.nan, "unclear"),
    ],
)
def test_the_course_in_a_word(way: float, low: float, high: float, verdict: str) -> None:
    rows = [{"share": share, "margins": way} for share in (0.1, 0.25, 0.5, 0.75)]
    rows[0]["margins"] = -50  # only 25, 50 and 75 % count
    rows.append({"share": 1.0, "margins": (low + high) / 2 if np.isfinite(low) else 0.0})
    rows[-1] |= {"margins_low": low, "margins_high": high}
    assert _verdict(rows) == verdict


@pytest.mark.parametrize(
    ("values", "target", "share"),
    [
        ([0.2, 0.4, 0.6, 0.8], 0.5, 0.625),
        ([0.2, 0.4, 0.6, 0.8], 0.8, 1.0),
        ([0.2, 0.4, 0.6, 0.8], 0.9, np.inf),
        ([0.2, 0.4, 0.6, 0.8], 0.1, 0.25),
        ([0.2, 0.9, 0.1, 0.8], 0.55, 0.375),
    ],
)
def test_when_a_curve_first_gets_somewhere(values: list[float], target: float, share: float) -> None:
    assert _reached(SHARES, np.array(values), target) == pytest.approx(share)


def frame(*columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(dict(enumerate(columns)), index=SHARES)


def test_the_factor_of_a_variant_that_is_twice_as_slow_or_fast() -> None:
    """Straight lines: the baseline gets to 0.4 at 50 % and stays there."""
    base = [0.2, 0.4, 0.4, 0.4]
    slow, fast, never = [0.1, 0.2, 0.3, 0.4], [0.4, 0.4, 0.4, 0.4], [0.1, 0.1, 0.1, 0.1]
    found = pace([Pairs(SHARES, frame(slow, slow, slow), frame(base, base, base))], 0.0)
    assert found["factor"] == pytest.approx(2) and found["reached"] == 3
    found = pace([Pairs(SHARES, frame(fast, fast, fast), frame(base, base, base))], 0.0)
    assert found["factor"] == pytest.approx(0.5) and np.isnan(found["at_least"])
    found = pace([Pairs(SHARES, frame(never, never, slow), frame(base, base, base))], 0.0)
    assert (found["factor"], found["high"], found["reached"]) == (np.inf, np.inf, 1)
    assert found["at_least"] == pytest.approx(2) and found["low"] == pytest.approx(2)
    found = pace([Pairs(SHARES, frame(never, slow, slow), frame(base, base, base))], 0.0)
    assert found["factor"] == pytest.approx(2) and found["high"] == np.inf


def test_over_a_grid_a_seed_counts_with_the_geometric_mean_of_its_settings() -> None:
    base, slow, fast = [0.2, 0.4, 0.4, 0.4], [0.1, 0.2, 0.3, 0.4], [0.4, 0.4, 0.4, 0.4]
    settings = [Pairs(SHARES, frame(rows, rows), frame(base, base)) for rows in (slow, fast)]
    assert pace(settings, 0.0)["factor"] == pytest.approx(1)
    partial = [settings[0], Pairs(SHARES, frame(fast), frame(base))]
    assert pace(partial, 0.0)["n"] == 1, "a seed needs all settings"


def test_equal_variants_need_equal_steps() -> None:
    """With the margin noise does not keep one of two equal variants from getting there."""
    random = np.random.default_rng(0)
    rise = np.linspace(0.1, 0.8, 10)[:, None]
    ours, theirs = (pd.DataFrame(rise + random.normal(0, 0.002, (10, 12))) for _ in range(2))
    shares = np.linspace(0.1, 1, 10)
    found = pace([Pairs(shares, ours, theirs)], 0.01)
    assert (
        found["reached"] == 12 and found["low"] <= 1 <= found["high"] and found["factor"] == pytest.approx(1, abs=0.02)
    )
    assert pace([Pairs(shares, ours, theirs)], 0.0)["reached"] < 10


@pytest.mark.parametrize("n", [6, 9, 12, 20])
def test_the_interval_of_a_median_covers_it(n: int) -> None:
    """Of a skewed distribution, whose mean is elsewhere."""
    random = np.random.default_rng(n)
    draws = np.exp(random.normal(size=(4000, n)))
    covered = np.mean([low <= 1 <= high for low, high in map(median_interval, draws)])
    place = int(np.flatnonzero(np.sort(draws[0]) == median_interval(draws[0])[0])[0])
    exact = 1 - 2 * stats.binom.cdf(place, n, 0.5)
    assert exact >= 0.95 and covered == pytest.approx(exact, abs=0.012)
    assert 1 - 2 * stats.binom.cdf(place + 1, n, 0.5) < 0.95, "no narrower one would do"


def test_few_values_have_their_range_as_interval() -> None:
    assert median_interval(np.array([3.0, 1.0, np.inf])) == (1, np.inf)
    assert np.isnan(median_interval(np.array([1.0]))).all()


def test_long_curves_are_thinned_with_both_ends() -> None:
    thin = _thin(np.linspace(0.01, 1, 100))
    assert len(thin) == MOST and thin[0] == 0.01 and thin[-1] == 1


def test_the_fake_study_has_all_tasks_and_ends_where_its_curves_end(results: Results) -> None:
    ends = results.gaps[results.gaps["share"] == 1].set_index(["task", "variant"])
    assert len(ends) == len(results.paired) == len(results.pace)
    paired = results.paired.set_index(["task", "variant"])
    for key, row in ends.iterrows():
        assert row["difference"] == pytest.approx(paired.loc[key, "difference"], abs=2e-3), key
    assert set(results.gap_curves["share"]) >= {0.5, 0.75, 1.0}
    assert results.pace["decays"].all()
