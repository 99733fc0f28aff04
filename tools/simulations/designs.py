"""Designs of studies, and how they decide: vectorised over studies, with the functions that kvformer itself uses."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvformer.analysis import testing
from kvformer.analysis.statistics import holm
from tools.simulations.studies import Array

ALPHA = 0.05
Flags = NDArray[np.bool_]


def one_budget(p: Array) -> Array:
    """An alternative to Holm's adjustment of each kind of statement: one budget for all statements on a variant.

    p: (3, ..., tasks) for a difference, equivalence and *not worse*. Zero, at least the margin and at most minus the
    margin exclude each other, so at most one of a task's hypotheses is true; each may use alpha over the number of
    tasks that are not settled, and settled is a task whose difference is shown and which is equivalent all the same.
    """
    p, unsettled = np.nan_to_num(p, nan=1.0), np.full(p.shape[1:-1], p.shape[-1])
    while True:
        factors = np.stack([unsettled, np.maximum(unsettled / 2, 1), np.maximum(unsettled / 2, 1)])[..., None]
        adjusted = np.minimum(p * factors, 1)
        settled = (adjusted[0] <= ALPHA) & (adjusted[1] <= ALPHA / 2)
        fewer = np.maximum(p.shape[-1] - settled.sum(axis=-1), 1)
        if (fewer == unsettled).all():
            return np.asarray(adjusted)
        unsettled = fewer


@dataclass(frozen=True)
class Design:
    """How a study is made and decided.

    looks: seeds at each look. weights: what each look may spend; 1 for each look is the naive "until it is decided".
    test: of a difference. adjust: the p of a family, of shape (3, studies, tasks): difference, equivalence, not worse.
    whole: all variants are one family.
    """

    name: str
    looks: tuple[int, ...]
    weights: tuple[float, ...] = (1.0,)
    test: Callable[[Array], Array] = testing.sign_flip_p
    adjust: Callable[[Array], Array] = holm
    whole: bool = False


@dataclass(frozen=True)
class Decided:
    """What a design says of each (study, task), and the seeds that it needed."""

    different: Flags
    equivalent: Flags
    not_worse: Flags
    seeds: NDArray[np.int64]

    @property
    def open(self) -> Flags:
        """Neither different nor equivalent."""
        return ~(self.different | self.equivalent)


def decide(differences: Array, design: Design, solved: Flags | None = None) -> Decided:
    """The statements on one family. A decided comparison gets no more seeds, and its word is final.

    differences: (studies, tasks, seeds) in margins. solved: tasks that both sides solve in every run: nothing is tested.
    """
    shape = differences.shape[:2]
    solved = np.zeros(shape[1], dtype=bool) if solved is None else solved
    different, equivalent, not_worse = (np.zeros(shape, dtype=bool) for _ in range(3))
    waiting = np.broadcast_to(~solved, shape).copy()
    seeds = np.where(solved, design.looks[0], np.full(shape, design.looks[-1]))
    by_look: list[Array] = []
    for n in design.looks:
        p = np.full((3, *shape), np.nan)
        p[:, :, solved] = 1.0
        known = differences[waiting][:, :n]
        p[:, waiting] = design.test(known), testing.equivalence_p(known, 1.0), testing.not_worse_p(known, 1.0)
        by_look.append(p)
        adjusted = design.adjust(testing.combine_looks(np.stack(by_look), design.weights))
        found = [values <= level for values, level in zip(adjusted, (ALPHA, ALPHA / 2, ALPHA / 2), strict=True)]
        equivalent |= waiting & found[1]
        different |= waiting & found[0] & ~found[1]
        not_worse |= waiting & found[2]
        seeds[waiting & (found[0] | found[1])] = n
        waiting &= ~(found[0] | found[1])
    return Decided(different, equivalent, not_worse, seeds)


def proportional(looks: tuple[int, ...], power: float = 1.0) -> tuple[float, ...]:
    """Weights in proportion to the seeds, or to a power of them."""
    shares = np.array(looks, dtype=float) ** power
    return tuple(shares / shares.sum())


def looked(*looks: int) -> Design:
    """The rule, with looks at these numbers of seeds."""
    return Design("looks " + ", ".join(map(str, looks)), looks, proportional(looks))


FIXED = Design("12 seeds", (12,))
LOOKS = looked(12, 20)
FEW = Design("5 seeds, t test", (5,), test=testing.t_p)
NAIVE = Design("5, 8, 12, 20 seeds until decided, t test", (5, 8, 12, 20), (1, 1, 1, 1), test=testing.t_p)
ONE_BUDGET = Design("looks 12, 20, one budget", (12, 20), LOOKS.weights, adjust=one_budget)
