"""Adaptive seeds: the numbers of seeds after which a study looks at its results, and what each look may spend."""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from kvformer.records.study import LookRecord, StudyManifest
from kvformer.spec.sections import Section

MOST_SEEDS = 10_000


class Looks(Section):
    """Numbers of seeds after which comparisons are decided. A comparison that is decided gets no more seeds."""

    looks: Annotated[list[Annotated[int, Field(ge=2, le=MOST_SEEDS)]], Field(min_length=2, max_length=10)] = Field(
        ..., description="Seeds of each comparison at the first look, the second, and so on."
    )
    weights: list[Annotated[float, Field(gt=0, lt=1)]] | None = Field(
        None,
        description="Share of the permitted error that each look may spend; they add up to 1. Default: in proportion "
        "to the seeds, so that little is spent early, where few differences are clear enough to be decided.",
    )

    @field_validator("looks")
    @classmethod
    def _increase(cls, looks: list[int]) -> list[int]:
        if any(later <= earlier for earlier, later in itertools.pairwise(looks)):
            raise ValueError(f"must increase from look to look, not {looks}")
        return looks

    @field_validator("weights")
    @classmethod
    def _fit(cls, weights: list[float] | None, info: ValidationInfo) -> list[float] | None:
        looks = info.data.get("looks")
        if weights is None or looks is None:
            return weights
        if len(weights) != len(looks):
            raise ValueError(f"must be as many as there are looks, {len(looks)}, not {len(weights)}")
        if not math.isclose(sum(weights), 1, abs_tol=1e-6):
            raise ValueError(f"must add up to 1, not {sum(weights):g}")
        return weights

    @property
    def shares(self) -> list[float]:
        """The weight of each look."""
        return self.weights or [seeds / sum(self.looks) for seeds in self.looks]


def seed_numbers(seeds: int | list[int] | Looks) -> list[int]:
    """The seeds that are meant by a number, a list or looks: all that the last look may need."""
    if isinstance(seeds, list):
        return seeds
    return list(range(seeds if isinstance(seeds, int) else seeds.looks[-1]))


def describe_looks(manifest: StudyManifest, taken: Sequence[LookRecord]) -> str:
    """The least and the most runs of a study with looks, of which the looks `taken` have been taken, in one line."""
    least, most = len(manifest.asked(taken)), len(manifest.asked(taken, at_most=True))
    runs = f"at least {least} and at most {most} runs" if least < most else f"{least} runs"
    seeds = ", ".join(map(str, manifest.looks))
    line = f"looks at {seeds} seeds: {runs} in all"
    if not taken:
        return line
    compared = {(run.task, run.variant) for run in manifest.runs if run.variant != manifest.baseline}
    return f"{line}; after look {len(taken)}, {len(taken[-1].open)} of {len(compared)} comparisons are open"
