"""The rule of decision: which word a difference gets, and when it is final."""

from math import isnan

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import comparison, spread
from scipy import stats

from kvformer.analysis import testing
from kvformer.analysis.decisions import Looks, judge, open_comparisons
from kvformer.analysis.results import PAIRED
from kvformer.analysis.study import Study
from kvformer.analysis.verdicts import DECIDED, OPEN, VERDICTS
from kvformer.records.study import StudyManifest

FINITE = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
OPPOSITE = {
    **{word: word for word in VERDICTS},
    "better": "worse",
    "worse": "better",
    "leaning better": "leaning worse",
    "leaning worse": "leaning better",
}
LOOKS = Looks([12, 20], [0.4, 0.6])


def words(*comparisons: object, looks: Looks | None = None) -> list[str]:
    return list(judge(comparisons, looks)["verdict"])  # type: ignore[arg-type]


def adjusted(rows: pd.DataFrame) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """The adjusted p of one variant."""
    p = [rows["p"], rows["p_equivalence"], rows["p_not_worse"]]
    return testing.adjust_family(p, rows["verdict"] == "both solve", 0.05)


@pytest.mark.parametrize(
    ("differences", "margin", "word"),
    [
        (spread(0.05, 6), 0.01, "better"),
        (spread(-0.05, 6), 0.01, "worse"),
        (spread(0.0, 6), 0.01, "equivalent"),
        (spread(0.002, 6), 0.01, "equivalent"),
        (spread(0.002, 6), None, "better"),
        (spread(0.02, 6, 0.03), 0.01, "not worse"),
        (spread(0.0, 6, 0.05), 0.01, "undecided"),
        ([0.5] * 4, 0.01, "leaning better"),
        ([0.5] * 6, 0.01, "better"),
        ([-0.5] * 6, 0.01, "worse"),
        ([0.0] * 6, 0.01, "undecided"),
        ([0.0] * 7, 0.01, "equivalent"),
        ([0.5, 0.5], 0.01, "undecided"),
        ([0.0, 0.0], 0.01, "undecided"),
        ([0.5], 0.01, ""),
    ],
)
def test_the_word_on_a_difference(differences: list[float], margin: float | None, word: str) -> None:
    """A family of one. Without spread, p is 2^(1−n): 0.031 for six pairs and 0.016 for seven."""
    assert words(comparison(differences, margin=margin)) == [word]
    assert words(comparison([-d for d in differences], margin=margin, goal="min")) == [word]


def test_leaning_is_what_the_adjusted_test_leaves_open() -> None:
    """p = 0.02 alone; with two others in the family it is 0.06."""
    pairs = np.array(spread(0.0, 5, 0.05))
    shift = stats.t.isf(0.01, 4) * pairs.std(ddof=1) / np.sqrt(5)
    noise = comparison(spread(0.0, 5, 0.3))
    for sign, word in ((1, "better"), (-1, "worse")):
        leaning = comparison(list(pairs + sign * shift), "copy", margin=None)
        assert words(leaning) == [word]
        assert words(leaning, noise, noise) == [f"leaning {word}", "undecided", "undecided"]


@settings(max_examples=60, deadline=None)
@given(st.lists(FINITE, min_size=3, max_size=9), st.floats(0.01, 5))
def test_the_word_turns_with_the_goal_and_with_the_sign(values: list[float], margin: float) -> None:
    (word,) = words(comparison(values, margin=margin))
    (turned,) = words(comparison([-value for value in values], margin=margin))
    assert turned == OPPOSITE[word] or "not worse" in (turned, word), "not worse looks at one side only"
    assert words(comparison([-value for value in values], margin=margin, goal="min")) == [word]


@settings(max_examples=60, deadline=None)
@given(st.lists(FINITE, min_size=3, max_size=9), st.floats(0.01, 5))
def test_no_word_contradicts_the_interval(values: list[float], margin: float) -> None:
    (row,) = judge([comparison(values, margin=margin, goal="min")]).to_dict("records")
    if row["verdict"] == "equivalent":
        assert -margin < row["low"] and row["high"] < margin
    if row["verdict"] == "not worse":
        assert row["high"] < margin, "of a loss, less is better"


@pytest.mark.parametrize("n", [7, 8])
def test_the_exact_test_decides_where_it_can(n: int) -> None:
    """Family of 4: the smallest p, 2^(1−n), passes 0.05 / 4 from eight pairs on."""
    rows = judge([comparison(spread(0.05 * k, n, 0.02), f"task{k}") for k in range(4)])
    assert set(rows["test"]) == {"sign-flip" if n == 8 else "t"}
    tested = testing.sign_flip_p if n == 8 else testing.t_p
    assert list(rows["p"]) == pytest.approx([tested(spread(0.05 * k, n, 0.02)) for k in range(4)])
    assert list(rows["p_holm"]) == pytest.approx(list(adjusted(rows)[0]))
    assert list(rows["verdict"]) == ["undecided", "better", "better", "better"]


def test_each_variant_is_a_family_of_its_own() -> None:
    one = [comparison(spread(0.0, 5, 0.04 * k), f"task{k}") for k in range(1, 5)]
    other = [comparison(spread(0.01, 5, 0.04 * k), f"task{k}", "k") for k in range(1, 3)]
    both = judge([*other, *one])
    pd.testing.assert_frame_equal(both[both["variant"] == "kv"].reset_index(drop=True), judge(one))
    assert list(both["variant"]) == ["k"] * 2 + ["kv"] * 4
    for name, expected in zip(("p", "p_equivalence", "p_not_worse"), adjusted(both[:2]), strict=True):
        assert list(both[f"{name}_holm"][:2]) == pytest.approx(list(expected))


def test_tasks_that_both_solve_are_named_apart_and_use_nothing_of_the_budget() -> None:
    solved = [comparison([0.0] * 5, f"easy{k}", solvable=True, baseline=1.0) for k in range(9)]
    difference = comparison(spread(-0.03, 5, 0.03))
    rows = judge([difference, *solved])
    assert list(rows["verdict"])[1:] == ["both solve"] * 9 and words(difference) == ["worse"]
    assert rows["p_holm"][0] == rows["p"][0] and rows["verdict"][0] == "worse"
    assert rows["failure_bound"][1] == pytest.approx(1 - 0.05 ** (1 / 5)) and isnan(rows["failure_bound"][0])
    assert set(rows["p"][1:]) == set(rows["p_equivalence"][1:]) == {1.0}
    assert rows["decided_at"][1] == 1


@pytest.mark.parametrize(
    ("differences", "lost", "word"),
    [
        ([0.0, 0.0, 0.0, 0.0, -0.005], [], "both solve"),  # 0.995 is still above 0.99
        ([0.0, 0.0, 0.0, 0.0, -0.02], [], "undecided"),
        ([0.0] * 5, [("kv", 3, "diverged")], "undecided"),
        ([0.0] * 5, [("qkv", 3, "failed")], "both solve"),
        ([0.0] * 2, [], "undecided"),
    ],
)
def test_both_solve_needs_every_run_of_both_sides(
    differences: list[float], lost: list[tuple[str, int, str]], word: str
) -> None:
    assert words(comparison(differences, solvable=True, baseline=1.0, lost=lost)) == [word]
    assert words(comparison(differences, solvable=False, baseline=1.0, lost=lost)) != ["both solve"]


def test_a_missing_pair_is_left_out_and_named() -> None:
    whole, lost = spread(-0.05, 6), [("kv", 2, "failed")]
    (row,) = judge([comparison(whole, lost=lost)]).to_dict("records")
    assert (row["n"], row["verdict"], row["unpaired"]) == (5, "worse", "kv default seed 2: failed")
    assert row["difference"] == pytest.approx(np.delete(whole, 2).mean())


def test_without_pairs_a_comparison_is_undecided_and_keeps_its_place_in_the_family() -> None:
    nothing = comparison([], "copy", planned=6)
    found = judge([comparison(spread(-0.02, 6, 0.02)), nothing])
    assert list(found["n"]) == [6, 0] and list(found["verdict"]) == ["worse", "undecided"]
    assert found["p_holm"][0] == pytest.approx(2 * found["p"][0])
    assert found[["p", "p_holm", "difference", "low"]].iloc[1].isna().all()


def test_two_seeds_are_points_and_one_seed_gets_no_word() -> None:
    two, one = comparison([0.3, 0.4]), comparison([0.3], "copy")
    rows = judge([two, one, comparison(spread(-0.05, 5), "reverse")])
    assert list(rows["verdict"]) == ["undecided", "", "worse"] and list(rows["test"]) == ["", "", "t"]
    assert list(rows["difference"]) == pytest.approx([0.35, 0.3, -0.05])
    assert rows[["low", "high", "p", "p_holm", "p_equivalence"]].iloc[:2].isna().all(axis=None)
    assert rows["p_holm"][2] == rows["p"][2], "what no test was planned for is not in the family"


def test_one_pair_of_several_planned_is_undecided() -> None:
    assert words(comparison([0.3], planned=6)) == ["undecided"]


def test_the_table_has_the_columns_of_results_json() -> None:
    rows = judge([comparison(spread(0.0, 5))])
    assert set(PAIRED.table(rows).columns) == set(rows.columns)


def looked_at(differences: list[float], **options: object) -> object:
    return comparison(differences, planned=20, **options)  # type: ignore[arg-type]


def test_a_look_that_is_not_reached_says_nothing() -> None:
    (row,) = judge([looked_at(spread(0.05, 11))], LOOKS).to_dict("records")  # type: ignore[list-item]
    assert (row["verdict"], row["decided_at"], row["n"]) == ("undecided", 0, 11) and isnan(row["p"])
    (row,) = judge([looked_at(spread(0.05, 12))], LOOKS).to_dict("records")  # type: ignore[list-item]
    assert (row["verdict"], row["decided_at"], row["test"]) == ("better", 1, "sign-flip")
    assert row["unpaired"] == "", "the seeds of the next look are not missing"


def test_p_over_looks_and_the_repeated_interval() -> None:
    """min_k p_k / w_k; the interval of the last look has the level 1 − 0.05 · w_k."""
    rng = np.random.default_rng(3)
    differences = list(0.004 + 0.02 * rng.normal(size=20))
    first, both = np.array(differences[:12]), np.array(differences)
    (early,) = judge([looked_at(differences[:17])], LOOKS).to_dict("records")  # type: ignore[list-item]
    assert early["n"] == 12, "between looks, the numbers are those of the last one"
    assert early["p"] == pytest.approx(min(1, testing.sign_flip_p(first) / 0.4))
    half = stats.t.isf(0.01, 11) * first.std(ddof=1) / np.sqrt(12)
    assert (early["low"], early["high"]) == pytest.approx((first.mean() - half, first.mean() + half))
    (late,) = judge([looked_at(differences)], LOOKS).to_dict("records")  # type: ignore[list-item]
    for name, test in (
        ("p", testing.sign_flip_p),
        ("p_equivalence", lambda values: testing.equivalence_p(values, 0.01)),
        ("p_not_worse", lambda values: testing.not_worse_p(values, 0.01)),
    ):
        assert late[name] == pytest.approx(min(1, test(first) / 0.4, test(both) / 0.6)), name
    half = stats.t.isf(0.015, 19) * both.std(ddof=1) / np.sqrt(20)
    assert (late["low"], late["high"]) == pytest.approx((both.mean() - half, both.mean() + half))


def test_what_is_decided_stays_decided() -> None:
    """Worse after twelve seeds; the eight that follow would take it back."""
    turned = spread(-0.05, 12) + spread(0.5, 8)
    (row,) = judge([looked_at(turned)], LOOKS).to_dict("records")  # type: ignore[list-item]
    assert (row["verdict"], row["decided_at"], row["n"]) == ("worse", 1, 12)
    assert row["difference"] == pytest.approx(-0.05)
    assert words(comparison(turned)) == ["better"]


def test_an_early_look_waits_for_the_exact_test() -> None:
    """Four pairs cannot decide exactly, twenty can: the t test is not used meanwhile."""
    looks = Looks([4, 20], [0.3, 0.7])
    pairs = spread(0.05, 4, 0.0001)
    (row,) = judge([looked_at(pairs, margin=None)], looks).to_dict("records")  # type: ignore[list-item]
    assert (row["test"], row["verdict"], row["p"]) == ("sign-flip", "leaning better", pytest.approx(0.125 / 0.3))
    few = Looks([3, 5], [0.3, 0.7])
    (row,) = judge([comparison(spread(0.05, 3, 0.0001), planned=5)], few).to_dict("records")
    assert (row["test"], row["verdict"]) == ("t", "better"), "no look can decide exactly"


def test_a_failed_run_does_not_delay_a_look_and_a_missing_one_does() -> None:
    values = spread(0.05, 12)
    failed = judge([looked_at(values, lost=[("kv", 3, "failed")])], LOOKS)  # type: ignore[list-item]
    assert list(failed["decided_at"]) == [1] and list(failed["n"]) == [11]
    assert list(failed["unpaired"]) == ["kv default seed 3: failed"]
    missing = judge([looked_at(values, lost=[("qkv", 3, "missing")])], LOOKS)  # type: ignore[list-item]
    assert list(missing["decided_at"]) == [0]


def manifest(looks: list[int], weights: list[float]) -> Study:
    return Study(
        StudyManifest.model_validate(
            {"name": "s", "protocol": "p", "baseline": "qkv", "runs": [], "looks": looks, "weights": weights}
            | {"variants": [{"name": name} for name in ("qkv", "kv", "k")], "equivalence_margin": {"accuracy": 0.01}}
            | {"tasks": [{"name": n, "metric": "accuracy", "goal": "max", "family": "vision"} for n in ("a", "b")]}
        )
    )


def table(differences: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    """The rows of `frames.scores`: the baseline with twenty seeds, variants with these differences."""
    found = {("a", "qkv"): [0.0] * 20, ("b", "qkv"): [0.0] * 20, **differences}
    return pd.DataFrame(
        [
            {"task": task, "variant": variant, "setting": "default", "metric": "test/accuracy", "goal": "max"}
            | {"seed": seed, "status": "finished", "value": 0.5 + value}
            for (task, variant), values in found.items()
            for seed, value in enumerate(values)
        ]
    )


def test_open_comparisons_are_those_that_more_seeds_may_decide() -> None:
    study = manifest([12, 20], [0.4, 0.6])
    noise = spread(0.0, 12, 0.2)
    scores = table(
        {("a", "kv"): spread(-0.05, 12), ("b", "kv"): noise, ("a", "k"): noise[:11], ("b", "k"): spread(0.0, 12)}
    )
    assert open_comparisons(scores, study, 1) == [("a", "k"), ("b", "kv")], "worse and equivalent are closed"
    more = table({("a", "kv"): spread(-0.05, 12), ("b", "kv"): spread(0.0, 12, 0.2) + spread(-0.3, 8)})
    assert open_comparisons(more, study, 1) == [("b", "kv")], "later seeds do not count at an earlier look"
    assert open_comparisons(more, study, 2) == []
    never = table({("a", "kv"): spread(-0.05, 12), ("b", "kv"): [0.2, -0.2] * 10})
    assert open_comparisons(never, study, 2) == [("b", "kv")]


def test_words_are_open_or_closed() -> None:
    assert set(DECIDED) | set(OPEN) == set(VERDICTS) and not set(DECIDED) & set(OPEN)
