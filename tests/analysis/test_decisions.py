"""The rule of decision: which word a difference gets."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvformer.analysis.decisions import verdict
from kvformer.analysis.statistics import estimate

FINITE = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))


@pytest.mark.parametrize(
    ("values", "p", "margin", "goal", "word"),
    [
        ([0.05, 0.06, 0.05, 0.06], 0.001, 0.01, "max", "better"),
        ([0.05, 0.06, 0.05, 0.06], 0.001, 0.01, "min", "worse"),
        ([0.05, 0.06, 0.05, 0.06], 0.2, 0.01, "max", "undecided"),
        ([0.001, 0.002, 0.001, 0.002], 0.001, 0.01, "max", "equivalent"),
        ([0.001, 0.002, 0.001, 0.002], 0.001, None, "max", "better"),
        ([0.0, 0.0, 0.0], 1.0, 0.01, "max", "equivalent"),
        ([0.5, 0.5, 0.5], 0.0, 0.01, "max", "better"),
        ([0.5, 0.5], 0.0, 0.01, "max", "undecided"),
        ([0.0, 0.0], 1.0, 0.01, "max", "undecided"),
        ([0.5, 0.51], 0.01, 0.01, "max", "undecided"),
        ([0.5], math.nan, 0.01, "max", "undecided"),
        ([-0.02, 0.03, 0.01], 0.9, 0.01, "max", "undecided"),
    ],
)
def test_verdict_words(values: list[float], p: float, margin: float | None, goal: str, word: str) -> None:
    assert verdict(estimate([values]), p, margin, goal) == word


@settings(max_examples=60, deadline=None)
@given(st.lists(FINITE, min_size=3, max_size=9), st.floats(0.01, 5), st.floats(0, 1))
def test_verdict_turns_with_the_goal_and_with_the_sign(values: list[float], margin: float, p: float) -> None:
    opposite = {"better": "worse", "worse": "better", "equivalent": "equivalent", "undecided": "undecided"}
    word = verdict(estimate([values]), p, margin, "max")
    assert verdict(estimate([values]), p, margin, "min") == opposite[word]
    assert verdict(estimate([[-value for value in values]]), p, margin, "max") == opposite[word]
