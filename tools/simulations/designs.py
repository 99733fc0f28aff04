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


def one_budget(p: Array, solved: Flags) -> Array:
    """The rule: all statements on a variant together."""
    return testing.adjust_family(p, solved, ALPHA)


def each_kind(p: Array, solved: Flags) -> Array:
    """An alternative: Holm's adjustment for differences, equivalence and *not worse*, each by itself."""
    return holm(np.nan_to_num(p, nan=1.0))


@dataclass(frozen=True)
class Design:
    """How a study is made and decided.

    looks: seeds at each look. weights: what each look may spend; 1 for each look is the naive "until it is decided".
    test: of a difference. adjust: of p with the shape (3, studies, tasks): difference, equivalence, not worse.
    whole: all variants are one family.
    """

    name: str
    looks: tuple[int, ...]
    weights: tuple[float, ...] = (1.0,)
    test: Callable[[Array], Array] = testing.sign_flip_p
    adjust: Callable[[Array, Flags], Array] = one_budget
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

    differences: (studies, tasks, seeds) in margins. solved: tasks that both sides solve in every run, about which
    nothing is stated.
    """
    shape = differences.shape[:2]
    solved = np.broadcast_to(np.zeros(shape, dtype=bool) if solved is None else solved, shape)
    different, equivalent, not_worse = (np.zeros(shape, dtype=bool) for _ in range(3))
    waiting = ~solved
    seeds = np.where(solved, design.looks[0], np.full(shape, design.looks[-1]))
    by_look: list[Array] = []
    for n in design.looks:
        p = np.full((3, *shape), np.nan)
        known = differences[waiting][:, :n]
        p[:, waiting] = design.test(known), testing.equivalence_p(known, 1.0), testing.not_worse_p(known, 1.0)
        by_look.append(p)
        adjusted = design.adjust(testing.combine_looks(np.stack(by_look), design.weights), solved)
        found = [values <= level for values, level in zip(adjusted, (ALPHA, ALPHA / 2, ALPHA / 2), strict=True)]
        equivalent |= waiting & found[1]
        different |= waiting & found[0] & ~found[1]
        not_worse |= waiting & found[2]
        seeds[waiting & (found[0] | found[1])] = n
        waiting &= ~(found[0] | found[1])
    return Decided(different, equivalent, not_worse, seeds)


def proportional(looks: tuple[int, ...], power: float = 1.0) -> tuple[float, ...]:
    """Weights in proportion to the seeds, or to a power of them."""
    shares = [float(seeds) ** power for seeds in looks]
    return tuple(share / sum(shares) for share in shares)


def looked(*looks: int) -> Design:
    """The rule, with looks at these numbers of seeds."""
    return Design("looks " + ", ".join(map(str, looks)), looks, proportional(looks))


FIXED = Design("12 seeds", (12,))
LOOKS = looked(12, 20)
FEW = Design("5 seeds, t test", (5,), test=testing.t_p)
NAIVE = Design("5, 8, 12, 20 seeds until decided, t test", (5, 8, 12, 20), (1, 1, 1, 1), test=testing.t_p)
EACH_KIND = Design("looks 12, 20, Holm for each kind", (12, 20), LOOKS.weights, adjust=each_kind)
