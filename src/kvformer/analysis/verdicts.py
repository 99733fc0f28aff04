"""The words of the rule (`decisions`), for those that only print them."""

BOTH_SOLVE = "both solve"
MIXED = "mixed"
"""Better on one task and worse on another; only of a variant on average."""
DECIDED = ("better", "worse", "equivalent", BOTH_SOLVE)
"""Verdicts that close a comparison."""
OPEN = ("not worse", "leaning better", "leaning worse", "undecided")
"""Verdicts that more seeds may change."""
VERDICTS = (*DECIDED, *OPEN)
"""All verdicts on one comparison. With a single seed it has none: the verdict is empty."""
