"""What more seeds would decide, and what they cost: predictions for the comparisons that are still open.

From the pairs so far, true spread and difference are drawn from their posterior (normal differences, flat prior:
σ² ~ (n − 1)s² / χ², μ ~ d̄ + σ/√n · z), then further pairs, which are judged by the rule of `decisions`. The chance is
the share of draws in which the comparison is decided. Drawn pairs are normal, so the t test stands in for the exact
test, which agrees with it there and takes much longer; its smallest possible p is kept.
"""

from collections.abc import Iterator, Sequence
from math import inf, nan
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kvformer.analysis import testing
from kvformer.analysis.decisions import ONE_SIDED, Finding
from kvformer.analysis.frames import usable
from kvformer.analysis.testing import Array
from kvformer.analysis.verdicts import ALPHA, FEWEST, OPEN
from kvformer.seeding import generator

NEW_STUDY = (12, 20, 40)
"""Seeds of a new study that are tried where no look is left."""
DRAWS = 1000
GOOD = 0.8
"""A chance that is worth its hours: comparisons are ordered by what it costs to reach it."""
HOPELESS = 0.5
"""A comparison is hopeless if even the most seeds would rather leave it open than decide it."""


class Plan(NamedTuple):
    """Numbers of seeds to try. further: they are looks to come, after `done` seeds; else each is a study of its own,
    on seeds that were not used so far. weights: what each look may spend of the permitted error."""

    seeds: Sequence[int]
    weights: Sequence[float]
    done: int = 0
    further: bool = False


def plan(findings: Sequence[Finding]) -> pd.DataFrame:
    """The table `planning` of these findings (`decisions.findings`): cheapest first, hopeless ones last.

    The seeds of a fixed study, and those of all looks, are used up: to judge them again with some more would be to
    raise the number until something is decided, which errs in 14 instead of 5 % (docs/statistics.md). So the numbers
    there are those of a new study of the open comparisons.
    """
    rows: list[list[dict[str, Any]]] = []
    families: dict[str, list[Finding]] = {}
    for finding in findings:
        families.setdefault(finding.comparison.names["variant"], []).append(finding)
    for family in families.values():
        for chosen, plan in _plans(family):
            chances = _chances(chosen, plan)
            rows += [
                _rows(finding, plan, chances[:, index]) for index, finding in enumerate(chosen) if _is_open(finding)
            ]
    return pd.DataFrame([row for comparison in sorted(rows, key=_order) for row in comparison])


def _is_open(finding: Finding) -> bool:
    return finding.verdict in OPEN


def _plans(family: list[Finding]) -> Iterator[tuple[list[Finding], Plan]]:
    """The looks that are left, with the whole family, and a new study of the open comparisons for which none is."""
    last = min((finding.look for finding in family if _is_open(finding)), default=0)
    looks = family[0].looks
    left = [int(seeds) for seeds in looks.seeds[last:] if seeds != inf]
    opened = [finding for finding in family if _is_open(finding)]
    if opened and left:
        yield family, Plan(left, looks.weights[last:], int(looks.seeds[last - 1]) if last else 0, further=True)
    elif opened:
        yield opened, Plan(NEW_STUDY, [1.0] * len(NEW_STUDY))


def _chances(family: list[Finding], plan: Plan) -> Array:
    """The chance that each comparison (columns) is decided with each number of seeds (rows); NaN where unknown."""
    drawn = [_draw(finding, plan) for finding in family]
    waiting = np.array([[_is_open(finding) for finding in family]] * DRAWS)
    # What the looks so far said stays; a new study starts without it.
    before = [[finding.p.get(name, nan) for finding in family] for name in ("p", "p_equivalence")]
    so_far = np.repeat(np.array(before if plan.further else np.full_like(before, nan))[:, None], DRAWS, axis=1)
    solved, chances = np.array([finding.solved for finding in family]), []
    for seeds, weight in zip(plan.seeds, plan.weights, strict=True):
        p = np.stack([_p(finding, pairs, seeds, plan) for finding, pairs in zip(family, drawn, strict=True)], axis=-1)
        p = np.fmin(so_far, np.where(waiting, p / weight, nan))
        different, equivalent = testing.adjust_family(p, solved, ALPHA)
        decided = (different <= ALPHA) | (equivalent <= ONE_SIDED)
        if plan.further:
            so_far, waiting = p, waiting & ~decided
            decided = ~waiting
        chances.append(decided.mean(axis=0))
    known = [len(finding.comparison.signed(finding.seeds)) >= FEWEST for finding in family]
    return np.where(known, chances, nan)


def _draw(finding: Finding, plan: Plan) -> Array:
    """Pairs of shape (DRAWS, pairs) for the most seeds; with further looks, the first ones are those that exist."""
    pairs = finding.comparison.signed(finding.seeds).to_numpy()
    n, names = len(pairs), finding.comparison.names
    if n < FEWEST or not _is_open(finding):
        return np.full((DRAWS, max(plan.seeds)), nan)
    rng = generator("planning", names["task"], names["setting"], names["variant"])
    sigma = pairs.std(ddof=1) * np.sqrt((n - 1) / rng.chisquare(n - 1, DRAWS))
    mu = pairs.mean() + sigma / np.sqrt(n) * rng.normal(size=DRAWS)
    new = mu[:, None] + sigma[:, None] * rng.normal(size=(DRAWS, max(plan.seeds) - plan.done))
    return np.concatenate([np.broadcast_to(pairs, (DRAWS, n)), new], axis=1) if plan.further else new


def _p(finding: Finding, drawn: Array, seeds: int, plan: Plan) -> Array:
    """p of a difference and of equivalence, of shape (2, DRAWS). A pair that was lost stays lost."""
    lost = max(plan.done - len(finding.comparison.signed(finding.seeds)), 0)
    pairs, margin = drawn[:, : seeds - lost], finding.comparison.margin
    p = testing.t_p(pairs)
    # As in `Finding.take`, which has not chosen a test before the first look.
    exact = testing.can_decide(plan.seeds[-1] - lost, max(finding.family, 1), ALPHA * plan.weights[-1])
    if exact or not plan.further:
        p = np.maximum(p, 2.0 ** (1 - pairs.shape[1]))
    return np.stack([p, np.full(DRAWS, nan) if margin is None else testing.equivalence_p(pairs, margin)])


def _rows(finding: Finding, plan: Plan, chances: Array) -> list[dict[str, Any]]:
    """The rows of one comparison. hours: of one core, for the seeds of variant and baseline that are still to run."""
    names, runs = finding.comparison.names, usable(finding.comparison.runs)
    n = len(finding.comparison.signed(finding.seeds))
    paid = max(plan.done, n) if plan.further else 0
    seconds = runs.groupby(["variant", "setting"])["seconds"].mean().groupby("variant").sum()
    ours = seconds.get(names["variant"], nan) / 3600
    baseline = seconds.drop(names["variant"], errors="ignore").sum(min_count=1) / 3600
    return [
        {"task": names["task"], "variant": names["variant"], "plan": "further looks" if plan.further else "new study"}
        | {"n": n, "seeds": seeds, "chance": chance, "hopeless": bool(chances[-1] < HOPELESS)}
        | {"hours": (seeds - paid) * (ours + baseline), "baseline_hours": (seeds - paid) * baseline}
        for seeds, chance in zip(plan.seeds, chances, strict=True)
    ]


def _order(rows: list[dict[str, Any]]) -> tuple[bool, float, float]:
    """Cheapest first, by the hours for a good chance; then those that have none, the best first; hopeless ones last."""
    price = next((row["hours"] for row in rows if row["chance"] >= GOOD), inf)
    return rows[-1]["hopeless"], price, -np.nan_to_num(rows[-1]["chance"], nan=-1.0)
