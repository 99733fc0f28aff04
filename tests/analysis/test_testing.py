"""The tests of paired differences: exact p values by brute force, closed testing by hand, looks."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from kvformer.analysis import testing
from kvformer.analysis.statistics import estimate

RNG = np.random.default_rng(16)


def brute_force(row: list[float]) -> float:
    """Counted with whole numbers: rows hold multiples of 1/1000."""
    whole = [round(1000 * value) for value in row]
    sums = [abs(sum(sign * value for sign, value in zip(signs, whole, strict=True))) for signs in signs_of(len(row))]
    return sum(total >= abs(sum(whole)) for total in sums) / len(sums)


def signs_of(n: int) -> list[tuple[int, ...]]:
    return list(product((-1, 1), repeat=n))


@pytest.mark.parametrize("n", range(1, 13))
def test_the_sign_flip_p_counts_all_signs(n: int) -> None:
    """Rows with many ties, with zeros, and with values that binary numbers cannot hold."""
    for row in [*np.round(RNG.normal(0.3, 1, (4, n)), 3), *(RNG.integers(-3, 4, (8, n)) / 10)]:
        assert testing.sign_flip_p(row) == brute_force(list(row))


def test_the_sign_flip_p_of_many_pairs() -> None:
    rows = np.round(RNG.normal(0.4, 1, (3, 16)), 3)
    assert testing.sign_flip_p(rows).tolist() == [brute_force(list(row)) for row in rows]
    many = RNG.normal(0.3, 1, 40)
    assert testing.sign_flip_p(many) == testing.sign_flip_p(many) == pytest.approx(testing.t_p(many), abs=0.01)


@pytest.mark.parametrize("n", [1, 2, 5, 12, 20, 30])
def test_no_p_is_below_the_smallest_possible(n: int) -> None:
    same, nearly = np.full(n, 0.7), 1 + RNG.uniform(size=n)
    assert testing.sign_flip_p(same) == testing.sign_flip_p(nearly) == 2.0 ** (1 - n)
    if n > 1:
        assert testing.t_p(same) == testing.equivalence_p(same, 1.0) == testing.not_worse_p(same, 0.1) == 2.0 ** (1 - n)


def test_differences_due_to_rounding_are_zero() -> None:
    rounding = np.array([1.1e-16, -2.2e-16, 1.1e-16, 1.1e-16])
    assert testing.sign_flip_p(rounding) == testing.t_p(rounding) == testing.sign_flip_p(np.zeros(4)) == 1
    assert testing.equivalence_p(rounding, 0.02) == 0.125
    tied = np.array([0.1, 0.2, -0.3, 0.3])  # 0.1 + 0.2 is not 0.3 in binary
    assert testing.sign_flip_p(tied) == brute_force(list(tied))


def test_too_few_pairs_give_no_p() -> None:
    assert np.isnan(testing.sign_flip_p([])) and np.isnan(testing.t_p([0.5])) and np.isnan(testing.t_p([]))
    assert np.isnan(testing.equivalence_p([0.5], 1.0)) and np.isnan(testing.not_worse_p([], 1.0))


def test_t_tests_are_those_of_scipy_and_rows_are_independent() -> None:
    rows = RNG.normal(0.2, 1, (2, 3, 7))
    for index in np.ndindex(2, 3):
        row = rows[index]
        assert testing.t_p(rows)[index] == testing.t_p(row) == pytest.approx(stats.ttest_1samp(row, 0).pvalue)
        above = stats.ttest_1samp(row, -0.5, alternative="greater").pvalue
        below = stats.ttest_1samp(row, 0.5, alternative="less").pvalue
        assert testing.not_worse_p(rows, 0.5)[index] == pytest.approx(above)
        assert (
            testing.equivalence_p(rows, 0.5)[index]
            == testing.equivalence_p(row, 0.5)
            == pytest.approx(max(above, below))
        )
        assert testing.sign_flip_p(rows)[index] == testing.sign_flip_p(row)


def test_equivalence_never_contradicts_the_interval() -> None:
    for row in RNG.normal(0.3, 0.5, (200, 6)):
        found = estimate([row])
        inside = found.low > -0.8 and found.high < 0.8
        assert (testing.equivalence_p(row, 0.8) < 0.025) == inside
        assert (testing.not_worse_p(row, 0.8) < 0.025) == (found.low > -0.8)


def test_seeds_from_which_the_exact_test_can_decide() -> None:
    """Worked by hand: 2^(1-n) <= alpha / m."""
    first = {m: next(n for n in range(1, 30) if testing.can_decide(n, m, 0.05)) for m in (1, 4, 11, 14, 70)}
    assert first == {1: 6, 4: 8, 11: 9, 14: 10, 70: 12}
    assert testing.can_decide(12, 14, 0.05 * 0.2) and not testing.can_decide(12, 14, 0.05 * 0.1)


def test_the_statements_on_a_variant_share_one_budget() -> None:
    """Worked by hand: alpha over the tasks that are not settled."""
    nan = float("nan")
    p = [[0.001, 0.02, 0.03], [0.9, 0.9, 0.9], [0.9, 0.9, 0.004]]
    assert testing.adjust_family(p, [False] * 3, 0.05) == pytest.approx(
        np.array([[0.003, 0.06, 0.09], [1, 1, 1], [1, 1, 0.006]])
    )
    # The first differs and is equivalent all the same: two are left.
    p[1] = [0.001, 0.9, nan]
    assert testing.adjust_family(p, [False] * 3, 0.05)[0] == pytest.approx([0.002, 0.04, 0.06])
    # One is solved by both sides: nothing is stated, and one is left. Equivalence alone uses half of alpha, not more.
    assert testing.adjust_family(p, [False, True, False], 0.05) == pytest.approx(
        np.array([[0.001, 1, 0.03], [0.001, 1, 1], [0.9, 1, 0.004]])
    )
    both = testing.adjust_family(np.stack([p, np.full((3, 3), nan)], axis=1), [[False] * 3] * 2, 0.05)
    assert (both[:, 0] == testing.adjust_family(p, [False] * 3, 0.05)).all() and (both[:, 1] == 1).all()


@pytest.mark.parametrize(
    ("p", "count"),
    [
        ([], 0),
        ([0.04], 1),
        ([0.06], 0),
        ([0.01, 0.5], 1),  # {0.5} stands; both together: 2 · 0.01 <= 0.05
        ([0.03, 0.5], 0),  # both together: 2 · 0.03 > 0.05
        ([0.03, 0.04], 2),  # 0.04 falls alone; both together: 2/2 · 0.04 <= 0.05
        ([0.01, 0.02, 0.03], 3),
        ([0.001, 0.024, 0.9], 2),  # {0.024, 0.9}: 2 · 0.024 <= 0.05, so only {0.9} stands
        ([0.001, 0.026, 0.9], 1),  # {0.026, 0.9} stands; all three: 3 · 0.001 <= 0.05
        ([0.02, 0.03, 0.9], 1),  # all three: 3/2 · 0.03 = 0.045 <= 0.05; {0.03, 0.9} stands: 2 · 0.03 > 0.05
        ([0.02, 0.04, 0.9], 0),  # all three stand: 3 · 0.02 and 3/2 · 0.04 are 0.06
        ([0.001, float("nan")], 1),
    ],
)
def test_closed_testing_by_hand(p: list[float], count: int) -> None:
    assert testing.simes_count(p, 0.05) == count


def test_closed_testing_equals_the_test_of_all_subsets() -> None:
    """The bound is m less the size of the largest subset that Simes' test does not reject."""
    for p in RNG.beta(0.3, 2, (50, 6)):
        subsets = [subset for size in range(1, 7) for subset in combinations(sorted(p), size)]
        kept = [
            len(subset)
            for subset in subsets
            if min(len(subset) / rank * value for rank, value in enumerate(subset, 1)) > 0.05
        ]
        assert testing.simes_count(p, 0.05) == 6 - max(kept, default=0)


def test_looks_are_combined_by_their_weights() -> None:
    weights = [0.2, 0.3, 0.5]
    assert testing.combine_looks([0.01], weights) == pytest.approx(0.05)
    assert testing.combine_looks([0.01, 0.003], weights) == pytest.approx(0.01)
    assert testing.combine_looks([0.5, 0.9, 0.9], weights) == 1
    found = testing.combine_looks([[0.01, 0.4], [np.nan, 0.03]], weights)
    assert found == pytest.approx([0.05, 0.1])
    assert np.isnan(testing.combine_looks([np.nan, np.nan], weights))
    assert [testing.look_level(weights, look, 0.05) for look in (1, 2, 3)] == pytest.approx([0.99, 0.985, 0.975])
