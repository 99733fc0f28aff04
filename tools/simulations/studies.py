"""Simulated studies: paired differences in margins, positive is better, of shape (studies, tasks, seeds)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kvformer.analysis.comparisons import blocks, is_solvable
from kvformer.analysis.frames import load_runs, paired_by_setting, scores, usable
from kvformer.analysis.quantities import SOLVED
from kvformer.analysis.statistics import by_seed
from kvformer.analysis.study import read_study

Array = NDArray[np.float64]
REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
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
    """The comparisons of the reference run, of shape (variants, tasks).

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
        """Studies as the reference run makes them likely, of shape (studies, variants, tasks, seeds).

        The true spread and difference of each comparison are drawn from their posterior (normal differences, flat
        prior), so that they are as uncertain as five seeds leave them.
        """
        shape = (studies, *self.mean.shape)
        sd = self.sd * np.sqrt((self.n - 1) / rng.chisquare(self.n - 1, shape))
        mean = self.mean + sd / np.sqrt(self.n) * rng.normal(size=shape)
        return np.asarray(mean[..., None] + sd[..., None] * rng.normal(size=(*shape, seeds)))


@cache
def observed(folder: Path = REFERENCE) -> Observed:
    """What the reference run says of each comparison."""
    study, rows = read_study(folder), scores(load_runs(folder))
    variants, tasks = study.variants[1:], list(study.tasks)
    found = np.zeros((5, len(variants), len(tasks)))
    baseline = np.zeros(len(tasks))
    for block in blocks(rows, study):
        task, hours = tasks.index(block.task), block.runs.groupby("seed")["seconds"].sum().mean() / 3600
        if block.variant == study.baseline:
            baseline[task] = hours
            continue
        pairs = by_seed([*paired_by_setting(usable(block.runs), usable(block.baseline)).values()]).to_numpy()
        margin = study.margin(block.metric)
        assert margin is not None
        sign = 1 if block.goal == "max" else -1
        solvable = is_solvable(study.tasks[block.task].family, block.metric)
        least = min(block.runs["value"].min(), block.baseline["value"].min())
        values = (
            sign * pairs.mean() / margin,
            pairs.std(ddof=1) / margin,
            pairs.size,
            solvable and least >= SOLVED,
            hours,
        )
        found[:, variants.index(block.variant), task] = values
    return Observed(found[0], found[1], found[2], found[3].astype(bool), found[4], baseline)
