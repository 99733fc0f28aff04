"""Scaling laws on losses that were made from a known law."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from kvformer.analysis.results import Results
from kvformer.analysis.scaling import OPERATIONS, scaling, trend
from kvformer.analysis.scaling_law import Law, Points, _Problem, fit, intervals, paired_means, resamples
from kvformer.analysis.statistics import Estimate
from kvformer.analysis.study import Study
from kvformer.config.loading import load_study

LAW = Law(np.array([1.0, 60.0, 0.4, 400.0, 0.5]), np.array([1.0, 0.6, 1.2]))
SIZES, TOKENS = (5e4, 2e5, 6e5, 2e6), ((1.2e6, 4.8e6), (1.2e6, 4.8e6), (1.2e6, 2.4e6), (1.2e6, 2.4e6))


def points(seeds: int, noise: float = 0.0, seed: int = 0) -> Points:
    """Losses of LAW for three variants; half of the noise of a run is that of its seed and setting."""
    rng = np.random.default_rng(seed)
    parameters, tokens = np.repeat(SIZES, 2), np.ravel(TOKENS)
    variant = np.repeat(np.arange(3), len(tokens))
    every = np.tile(parameters, 3), np.tile(tokens, 3), variant
    shared = np.tile(rng.normal(size=(len(tokens), seeds)), (3, 1))
    own = rng.normal(size=(len(variant), seeds))
    return Points(*every, LAW.loss(*every)[:, None] * np.exp(noise * (shared + own)))


def test_the_fit_finds_the_law_behind_losses_without_noise() -> None:
    made = points(1)
    found = fit(made, paired_means(made), 3)
    np.testing.assert_allclose(found.constants, LAW.constants, rtol=1e-4)
    np.testing.assert_allclose(found.worth, LAW.worth, rtol=1e-5)


def test_the_slopes_of_the_search_are_those_of_its_residuals() -> None:
    made = points(1, 0.01)
    problem = _Problem(made, paired_means(made), 3)
    for start in problem.starts():
        place = start + 0.1
        slopes = optimize.approx_fprime(place, problem._residuals, 1e-7)
        np.testing.assert_allclose(problem._jacobian(place), slopes, atol=1e-5)


def test_the_intervals_of_noisy_studies_hold_the_law_behind_them() -> None:
    """Thirty studies of four seeds: about 95 % of the intervals of m contain the true value."""
    inside = []
    for seed in range(30):
        made = points(4, 0.005, seed)
        found = fit(made, paired_means(made), 3)

        def worth(means: np.ndarray, made: Points = made, found: Law = found) -> np.ndarray:
            return fit(made, means, 3, found).logs[6:]

        low, high = intervals(made, worth, found.logs[6:])
        inside += [*(low <= np.log(LAW.worth[1:])), *(np.log(LAW.worth[1:]) <= high)]
        np.testing.assert_allclose(found.worth, LAW.worth, rtol=0.1)
    assert 0.94 <= np.mean(inside) <= 1  # each of both ends: 97.5 %


def test_every_bootstrap_sample_of_few_seeds_is_taken_once() -> None:
    counts, chances = resamples(3)
    assert len(counts) == 10 and chances.sum() == pytest.approx(1)
    values = np.array([1.0, 2.0, 6.0])
    means = counts @ values / 3
    assert chances @ means == pytest.approx(3)
    assert chances @ (means - 3) ** 2 == pytest.approx(np.var(values) / 3)
    counts, chances = resamples(9)
    assert (counts.sum(axis=1) == 9).all() and chances.sum() == pytest.approx(1)


def test_the_interval_of_a_mean_is_students() -> None:
    made = Points(np.ones(1), np.ones(1), np.zeros(1, int), np.array([[1.0, 2.0, 6.0, 3.0]]))
    found = np.array([3.0])
    (low,), (high,) = intervals(made, lambda means: means, found)
    half = 3.182446305 * np.std(made.losses, ddof=1) / 2
    assert (low, high) == (pytest.approx(3 - half), pytest.approx(3 + half))
    few = made._replace(losses=made.losses[:, :2])
    assert np.isnan(intervals(few, lambda means: means, found)).all()


def test_a_missing_run_takes_its_pair_out_and_nothing_else() -> None:
    made = points(3, 0.01)
    losses = made.losses.copy()
    losses[10, 1] = np.nan  # variant 1 at setting 2
    found = paired_means(made._replace(losses=losses))
    whole = paired_means(made)
    np.testing.assert_allclose(np.delete(found, 10), np.delete(whole, 10))
    gaps = (made.losses[10] - made.losses[2])[[0, 2]]
    assert found[10] == pytest.approx(made.losses[2].mean() + gaps.mean())


def test_a_variant_without_losses_is_unknown_and_disturbs_no_other() -> None:
    made = points(1)
    known = made.variant != 1
    found = fit(made.where(known), paired_means(made)[known], 3)
    assert np.isnan(found.worth[1])
    np.testing.assert_allclose(found.worth[[0, 2]], [1, 1.2], rtol=1e-4)
    again = fit(made.where(known), paired_means(made)[known], 3, found)
    np.testing.assert_allclose(again.worth, found.worth, rtol=1e-4)


# A whole study: three sizes are fitted, the fourth is held out.

DIMS, STEPS = (16, 32, 64, 128), ((40, 160), (40, 160), (40, 80), (40, 80))
VARIANTS = ("qkv", "kv", "q_kv")


def study(seeds: int = 4) -> Study:
    settings = {
        f"d{dim}_{count}": {"model.dim": dim, "training.steps": count}
        for dim, counts in zip(DIMS, STEPS, strict=True)
        for count in counts
    }
    raw = {
        "name": "s", "protocol": "corrected", "variants": list(VARIANTS), "seeds": seeds,
        "tasks": {"characters": {"model": {"heads": 4, "positions": "rope"}, "settings": settings}},
    }  # fmt: skip
    manifest = load_study(raw).manifest()
    return Study(manifest.model_copy(update={"scaling": "characters"}))


def scores(of: Study, noise: float = 0.003, lost: dict[tuple[str, str, int], str] | None = None) -> pd.DataFrame:
    """Runs with the losses of LAW at their sizes, on 300 times the tokens. lost: (setting, variant, seed) by status."""
    cells = tables(of, pd.DataFrame([_run(run, 1.0) for run in of.runs]))["scaling"]
    known = cells.set_index(["setting", "variant"])
    noises = np.random.default_rng(0).normal(size=(20, len(known) + len(VARIANTS)))
    rows = []
    for run in of.runs:
        cell, place = known.loc[(run.setting, run.variant)], VARIANTS.index(run.variant)
        loss = LAW.loss(np.array([cell["parameters"]]), 300 * np.array([cell["tokens"]]), np.array([place]))[0]
        loss += noise * (noises[run.seed, of.settings("characters").index(run.setting)] + noises[run.seed, -1 - place])
        rows.append(_run(run, loss, (lost or {}).get((run.setting, run.variant, run.seed), "finished")))
    return pd.DataFrame(rows)


def _run(run: Any, loss: float, status: str = "finished") -> dict[str, Any]:
    keys = {name: getattr(run, name) for name in ("task", "setting", "variant", "seed")}
    return {**keys, "value": loss if status == "finished" else np.nan, "status": status, "parameters": 1e5}


def costs(of: Study) -> pd.DataFrame:
    macs = {"qkv": 100.0, "kv": 90.0, "q_kv": 95.0}
    keys = {(run.task, run.setting, run.variant) for run in of.runs}
    return pd.DataFrame([{"task": t, "setting": s, "variant": v, "macs": macs[v]} for t, s, v in sorted(keys)])


def tables(of: Study, runs: pd.DataFrame, measured: bool = True) -> dict[str, pd.DataFrame]:
    found = scaling(runs, costs(of) if measured else costs(of).drop(columns="macs"), of)
    results = Results.of(Path("none"), of, found)
    return {name: getattr(results, name) for name in ("scaling", "scaling_law", "scaling_variants")}


def test_points_are_counted_by_the_cost_code() -> None:
    of = study()
    found = tables(of, scores(of))["scaling"].set_index(["setting", "variant"])
    assert len(found) == 8 * 3 and (found["n"] == 4).all() and (found["expected"] == 4).all()
    row = found.loc[("d32_160", "kv")]
    assert row["tokens"] == 160 * 64 * 64  # steps, batch, context
    assert row["compute"] == OPERATIONS * 90 * 160 * 64
    projections = 6 * 32 * 32
    assert row["size"] - row["parameters"] == projections
    assert row["total"] == 1e5
    assert np.isnan(found.loc[("d32_160", "qkv"), "gap"])
    assert set(found.index[found["held_out"]].get_level_values("setting")) == {"d128_40", "d128_80"}
    unmeasured = tables(of, scores(of), measured=False)
    assert unmeasured["scaling"]["compute"].isna().all()
    assert unmeasured["scaling_variants"]["compute"].isna().all()
    assert unmeasured["scaling_variants"]["worth"].notna().all()


def test_the_law_of_a_study_contains_the_true_values_and_predicts_the_largest_size() -> None:
    of = study()
    found = tables(of, scores(of))
    variants = found["scaling_variants"].set_index("variant")
    for name, worth in zip(VARIANTS[1:], LAW.worth[1:], strict=True):
        row = variants.loc[name]
        assert row["worth_low"] < worth < row["worth_high"]
        assert abs(row["error"]) < 2 and row["error_low"] < row["error"] < row["error_high"]
        assert row["compute_low"] < row["compute"] < row["compute_high"]
    assert variants.loc["qkv", ["worth", "worth_low", "worth_high"]].tolist() == [1, 1, 1]
    assert variants.loc["qkv", "compute"] == 0
    # A parameter and token of kv costs 0.9 · (N of qkv / N of kv) of the baseline's.
    sizes = found["scaling"].query("held_out").drop_duplicates("variant").set_index("variant")["parameters"]
    more = 90 / 100 * sizes["qkv"] / sizes["kv"] / variants.loc["kv", "worth"]
    assert variants.loc["kv", "compute"] == pytest.approx(100 * (more - 1))
    law = found["scaling_law"].set_index("quantity")
    assert list(law.index) == ["E", "A", "alpha", "B", "beta"]
    assert law.loc["alpha", "low"] < 0.4 < law.loc["alpha", "high"]


@pytest.mark.parametrize(("change", "word"), [(0.2, "grows"), (-0.2, "shrinks")])
def test_a_gap_that_changes_with_size_is_told(change: float, word: str) -> None:
    of = study()
    alike = scores(of, noise=0)
    alike["value"] = 1.5 + 0.1 * (alike["variant"] == "kv")
    changed = alike.assign(value=alike["value"] + 0.001 * alike["seed"] * (alike["variant"] == "kv"))
    assert tables(of, changed)["scaling_variants"].set_index("variant").loc["kv", "trend"] == "neither"
    sizes = tables(of, changed)["scaling"].set_index(["setting", "variant"])["size"]
    tilt = np.log10([sizes[row["setting"], "qkv"] / sizes.mean() for _, row in changed.iterrows()])
    noise = np.random.default_rng(0).normal(size=len(changed)) * 0.001
    changed["value"] += (change * tilt + noise) * (changed["variant"] == "kv") + 0.5 * (changed["variant"] == "kv")
    row = tables(of, changed)["scaling_variants"].set_index("variant").loc["kv"]
    assert row["trend"] == word
    assert row["slope_low"] < change < row["slope_high"]


def test_a_lead_grows_downwards() -> None:
    def found(mean: float, low: float, high: float) -> Estimate:
        return Estimate(mean, low, high, 3, 0.1, 2)

    assert trend(found(-0.2, -0.3, -0.1), found(-0.1, -0.2, -0.05)) == "grows"
    assert trend(found(-0.2, -0.3, -0.1), found(0.1, 0.05, 0.2)) == "shrinks"
    assert trend(found(0.2, 0.1, 0.3), found(0.1, -0.1, 0.2)) == "neither"
    assert trend(found(0.2, 0.1, 0.3), found(0.1, np.nan, np.nan)) == ""


def test_runs_that_diverged_or_are_missing_are_counted_and_leave_the_rest() -> None:
    of = study()
    lost = {("d32_40", "kv", 1): "diverged", ("d64_80", "q_kv", 2): "missing"}
    found = tables(of, scores(of, lost=lost))
    counts = found["scaling"].set_index(["setting", "variant"])["n"]
    assert counts[("d32_40", "kv")] == counts[("d64_80", "q_kv")] == 3 and counts.sum() == 8 * 3 * 4 - 2
    variants = found["scaling_variants"].set_index("variant")
    assert variants.loc["kv", "n"] == 3 and variants.loc["kv", "worth_low"] < 0.6 < variants.loc["kv", "worth_high"]


def test_a_variant_that_always_diverges_stays_in_the_tables() -> None:
    of = study()
    lost = {(run.setting, "kv", run.seed): "diverged" for run in of.runs}
    variants = tables(of, scores(of, lost=lost))["scaling_variants"].set_index("variant")
    assert variants.loc["kv", "n"] == 0 and np.isnan(variants.loc["kv", "worth"]) and variants.loc["kv", "trend"] == ""
    assert variants.loc["q_kv", "worth"] == pytest.approx(1.2, rel=0.2)


@pytest.mark.parametrize("kept", [(), (16,), (16, 32), (16, 32, 64)])
def test_too_few_sizes_give_points_without_a_law_or_a_prediction(kept: tuple[int, ...]) -> None:
    of = study()
    lost = {
        (run.setting, run.variant, run.seed): "missing" for run in of.runs if run.overrides["model.dim"] not in kept
    }
    found = tables(of, scores(of, lost=lost))
    assert len(found["scaling"]) == 24
    assert found["scaling"]["fitted"].notna().all() == (len(kept) == 3)
    assert found["scaling_variants"]["error"].isna().all()
    assert len(found["scaling_law"]) == (5 if len(kept) == 3 else 0)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_give_numbers_without_intervals_or_words(seeds: int) -> None:
    of = study(seeds=seeds)
    variants = tables(of, scores(of))["scaling_variants"]
    assert variants["worth"].notna().all() and variants["worth_low"].isna().all() and (variants["trend"] == "").all()


def test_a_study_without_the_key_has_no_scaling() -> None:
    of = study()
    without = Study(of.manifest.model_copy(update={"scaling": None}))
    assert scaling(scores(of), costs(of), without) == {}
