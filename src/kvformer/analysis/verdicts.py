"""The words and limits of the rule (`decisions`), for those that only print them."""

from math import ceil, log2

ALPHA = 0.05
"""The permitted error of all words on a variant together."""
FEWEST = 3
"""With fewer pairs there is no interval, no test and no decision."""
BOTH_SOLVE = "both solve"
MIXED = "mixed"
"""Better on one task and worse on another; only of a variant on average."""
DECIDED = ("better", "worse", "equivalent", BOTH_SOLVE)
"""Verdicts that close a comparison."""
OPEN = ("not worse", "leaning better", "leaning worse", "undecided")
"""Verdicts that more seeds may change."""
VERDICTS = (*DECIDED, *OPEN)
"""All verdicts on one comparison. With a single seed it has none: the verdict is empty."""


def seeds_needed(m: int, alpha: float) -> int:
    """The pairs from which the smallest p of the sign-flip test, 2^(1-n), passes Holm's first step in a family of m.

    alpha: the level; of a look, the study's level times the look's weight.
    """
    return ceil(1 + log2(m / alpha))
