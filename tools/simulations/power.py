"""How much a design decides, and what it costs, with the differences and spreads of the first reference run."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from kvformer.analysis import testing
from kvformer.analysis.statistics import holm
from kvformer.seeding import generator
from tools.simulations.designs import EACH_KIND, FEW, FIXED, LOOKS, NAIVE, Design, Flags, decide, looked, proportional
from tools.simulations.studies import Array, observed


def _version_1(p: Array, solved: Flags) -> Array:
    """Equivalence is not adjusted."""
    return np.stack([holm(p[0]), p[1], p[2]])


def _weighted(name: str, looks: tuple[int, ...], weights: tuple[float, ...]) -> Design:
    return Design(f"looks {', '.join(map(str, looks))}, {name}", looks, weights)


T = testing.t_p
DESIGNS = (
    Design("version 1: 5 seeds, t test, all in one family", (5,), test=T, adjust=_version_1, whole=True),
    FEW,
    FIXED,
    Design("20 seeds", (20,)),
    LOOKS,
    EACH_KIND,
    looked(8, 12, 20),
    looked(5, 8, 12, 20),
    looked(12, 20, 30),
    Design("looks 5, 8, 12, 20, t test", (5, 8, 12, 20), proportional((5, 8, 12, 20)), test=T),
    *(_weighted("equal weights", looks, proportional(looks, 0)) for looks in ((12, 20), (8, 12, 20))),
    *(_weighted("weights by squares", looks, proportional(looks, 2)) for looks in ((12, 20), (8, 12, 20))),
    NAIVE,
)


def power(studies: int, designs: tuple[Design, ...] = DESIGNS, log: Callable[[str], object] = print) -> pd.DataFrame:
    """Undecided comparisons of those that are not solved by both sides, seeds per comparison, and hours of one core."""
    known, rows = observed(), []
    for design in designs:
        log(f"power: {design.name}")
        drawn = known.draw(generator("power"), studies, design.looks[-1])
        if design.whole:
            whole = decide(drawn.reshape(studies, -1, drawn.shape[-1]), design, known.solved.ravel())
            still = whole.open.reshape(drawn.shape[:3])
            seeds = whole.seeds.reshape(drawn.shape[:3])
        else:
            families = [decide(drawn[:, index], design, solved) for index, solved in enumerate(known.solved)]
            still = np.stack([family.open for family in families], axis=1)
            seeds = np.stack([family.seeds for family in families], axis=1)
        tested = ~known.solved
        # A baseline runs as long as any comparison of its task is open.
        hours = (seeds * known.hours).sum(axis=(1, 2)) + (seeds.max(axis=1) * known.baseline_hours).sum(axis=1)
        undecided = still[:, tested].sum(axis=1)
        rows.append(
            {"design": design.name, "undecided": undecided.mean(), "tested": int(tested.sum())}
            | {"seeds": seeds[:, tested].mean(), "hours": hours.mean(), "studies": studies}
        )
    return pd.DataFrame(rows)
