"""Simulated studies: paired differences in margins, positive is better, of shape (studies, tasks, seeds)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
FIRST_REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "simulations" / "first_reference.csv"
TASKS = 14


def _bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A seed solves a task or does not; a little normal noise on top."""
    return np.asarray((rng.choice([-1.0, 1.0], shape) + 0.1 * rng.normal(size=shape)) / np.sqrt(1.01))


NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
    "bimodal": _bimodal,
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
}
"""Noise with mean 0 and variance 1. The exponential is not symmetric, so no test here is made for it."""


def _at_margin(tasks: int) -> Array:
    return np.resize([1.0, -1.0], tasks)


TRUTHS: dict[str, Array] = {
    "no difference": np.zeros(TASKS),
    "at the margin": _at_margin(TASKS),
    "half and half": np.concatenate([np.zeros(TASKS // 2), _at_margin(TASKS - TASKS // 2)]),
    "one without difference": np.concatenate([np.zeros(1), _at_margin(TASKS - 1)]),
}
"""True differences of a variant on its tasks, in margins, at which false statements are most frequent."""


def draw(rng: np.random.Generator, truth: Array, noise: str, studies: int, seeds: int) -> Array:
    """Studies of one variant with these true differences.

    Where there is none, seeds spread over three margins: nothing is equivalent, which would hide a false difference.
    Elsewhere they spread over a fifth of the margin, so that all true differences are found.
    """
    spread = np.where(truth == 0, 3.0, 0.2)[:, None]
    return np.asarray(truth[:, None] + spread * NOISE[noise](rng, (studies, truth.size, seeds)))


@dataclass(frozen=True)
class Observed:
    """Comparisons of a study, of shape (variants, tasks).

    mean, sd: of the differences between seeds, in margins. n: pairs. solved: both sides solve the task in every run.
    hours: of a seed of the variant. baseline_hours: of a seed of the baseline, by task.
    """

    mean: Array
    sd: Array
    n: Array
    solved: NDArray[np.bool_]
    hours: Array
    baseline_hours: Array

    def draw(self, rng: np.random.Generator, studies: int, seeds: int) -> Array:
        """Studies as this one makes them likely, of shape (studies, variants, tasks, seeds).

        The true spread and difference of each comparison are drawn from their posterior (normal differences, flat
        prior), so that they are as uncertain as its seeds leave them.
        """
        shape = (studies, *self.mean.shape)
        sd = self.sd * np.sqrt((self.n - 1) / rng.chisquare(self.n - 1, shape))
        mean = self.mean + sd / np.sqrt(self.n) * rng.normal(size=shape)
        return np.asarray(mean[..., None] + sd[..., None] * rng.normal(size=(*shape, seeds)))


@cache
def observed() -> Observed:
    """What the first edition of the reference run (commit 2120d85) said of each comparison."""
    table = pd.read_csv(FIRST_REFERENCE)
    tasks, variants = list(dict.fromkeys(table["task"])), list(dict.fromkeys(table["variant"]))

    def by(column: str) -> Array:
        return table.pivot(index="variant", columns="task", values=column).loc[variants, tasks].to_numpy()

    solved, baseline = by("solved").astype(bool), by("baseline_hours")[0]
    return Observed(by("mean"), by("sd"), by("pairs"), solved, by("hours"), baseline)
