"""The rule that turns paired differences into words (docs/statistics.md). Nothing else in the package gives a verdict.

Each variant is a question of its own: a family is what one variant is compared on. With a probability of 95 %, none of
its words is wrong: `testing.adjust_family` adjusts differences, equivalence and *not worse* together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kvformer.analysis import testing
from kvformer.analysis.comparisons import Comparison, compared
from kvformer.analysis.quantities import quantity
from kvformer.analysis.statistics import LEVEL, Estimate, cohens_dz, estimate
from kvformer.analysis.study import Study
from kvformer.analysis.verdicts import ALPHA, BOTH_SOLVE, DECIDED, FEWEST

ONE_SIDED = ALPHA / 2
"""Level of the one-sided tests, so that their words never contradict the 95 % interval."""
TESTS = ("p", "p_equivalence", "p_not_worse")


@dataclass(frozen=True)
class Looks:
    """The numbers of seeds after which a study looks at its results, and the share of the error that each may spend.

    A study without looks has one: at all of its seeds.
    """

    seeds: Sequence[float] = (inf,)
    weights: Sequence[float] = (1.0,)


def looks_of(study: Study) -> Looks:
    """The looks that a study fixed in advance."""
    return Looks(study.manifest.looks, study.manifest.weights) if study.manifest.looks else Looks()


@dataclass
class Finding:
    """What is known of a comparison after the looks so far.

    family: the number of comparisons in its family. look: the last one that was reached, 0 before the first. solved:
    whether both sides solve the task. p: by test, over these looks; p_worse is one-sided, of being worse. sign: of the
    difference at the look with the smallest p. adjusted: by test, within the family.
    """

    comparison: Comparison
    looks: Looks
    family: int
    look: int = 0
    test: str = ""
    solved: bool = False
    by_look: list[dict[str, float]] = field(default_factory=list)
    p: dict[str, float] = field(default_factory=dict)
    sign: int = 0
    adjusted: dict[str, float] = field(default_factory=dict)
    verdict: str = ""
    decided_at: int = 0

    @property
    def seeds(self) -> float:
        """The seeds below this number are used: those of the last look, or of the first while it is not reached."""
        return self.looks.seeds[max(self.look, 1) - 1]

    @property
    def level(self) -> float:
        """The level of the interval, 95 % over all looks together."""
        return testing.look_level(self.looks.weights, max(self.look, 1), ALPHA)

    def take(self, look: int) -> None:
        """Test the pairs of one more look."""
        self.look = look
        pairs, margin = self.comparison.signed(self.seeds).to_numpy(), self.comparison.margin
        self.solved = pairs.size >= FEWEST and self.comparison.both_solve(self.seeds)
        if self.solved:
            found = dict.fromkeys((*TESTS, "p_worse"), 1.0)
        elif pairs.size < FEWEST:
            found = dict.fromkeys((*TESTS, "p_worse"), nan)
        else:
            # Chosen by the pairs that there will be, not by what they say: at an early look the exact test waits.
            most = pairs.size if self.seeds == inf else pairs.size + self.looks.seeds[-1] - self.seeds
            exact = testing.can_decide(int(most), self.family, ALPHA * self.looks.weights[-1])
            self.test = "sign-flip" if exact else "t"
            p = float(testing.sign_flip_p(pairs) if exact else testing.t_p(pairs))
            found = {"p": p, "p_worse": p / 2 if pairs.mean() < 0 else 1 - p / 2}
            found["p_equivalence"] = nan if margin is None else float(testing.equivalence_p(pairs, margin))
            found["p_not_worse"] = nan if margin is None else float(testing.not_worse_p(pairs, margin))
        missed: dict[str, float] = dict.fromkeys(found, nan)
        self.by_look += [missed] * (look - 1 - len(self.by_look)) + [found]
        combined = {
            name: float(testing.combine_looks([known[name] for known in self.by_look], self.looks.weights))
            for name in found
        }
        if not combined["p"] >= self.p.get("p", inf):  # a word on a difference rests on the look with the smallest p
            self.sign = int(np.sign(pairs.mean())) if pairs.size else 0
        self.p = combined

    def decide(self, look: int) -> None:
        """Give the verdict; one that decides is final."""
        if self.comparison.planned < 2:
            return
        if self.solved:
            self.verdict = BOTH_SOLVE
        else:
            self.verdict = word(self.adjusted, self.sign, *self.interval()) if self.look else "undecided"
        self.decided_at = look if self.verdict in DECIDED else 0

    def interval(self) -> tuple[float, float]:
        """The interval of the mean difference, signed so that positive is better; NaN with fewer than 3 pairs."""
        pairs = self.comparison.signed(self.seeds)
        least, most = quantity(self.comparison.names["metric"]).bounds
        found = difference(pairs, (least - most, most - least), self.level)
        return found.low, found.high

    def row(self) -> dict[str, Any]:
        """The columns of the tables `paired`. difference, low and high are in the direction of the metric."""
        names, signed = self.comparison.names, self.comparison.signed(self.seeds)
        sign = 1 if names["goal"] == "max" else -1
        ends = sorted(sign * end for end in self.interval())
        return (
            {**names, "verdict": self.verdict, "test": self.test, "unpaired": self.comparison.unpaired(self.seeds)}
            | describe(sign * signed, names["goal"])
            | {"low": ends[0], "high": ends[1], "decided_at": self.decided_at}
            | {"margin": nan if self.comparison.margin is None else self.comparison.margin}
            | {name: self.p.get(name, nan) for name in (*TESTS, "p_worse")}
            | {f"{name}_holm": self.adjusted.get(name, nan) for name in TESTS}
            | {"failure_bound": 1 - ALPHA ** (1 / len(signed)) if self.verdict == BOTH_SOLVE else nan}
        )


def word(adjusted: dict[str, float], sign: int, low: float, high: float) -> str:
    """The verdict on a difference, from its adjusted p (of `TESTS`; NaN is no evidence) and its interval.

    sign: 1 where the difference is favourable, -1 where it is not. low, high: positive is better.
    """
    if adjusted["p_equivalence"] <= ONE_SIDED:
        return "equivalent"
    if adjusted["p"] <= ALPHA:
        return "better" if sign > 0 else "worse"
    if adjusted["p_not_worse"] <= ONE_SIDED:
        return "not worse"
    return "leaning worse" if high < 0 else "leaning better" if low > 0 else "undecided"


def difference(values: ArrayLike, bounds: tuple[float, float] = (-inf, inf), level: float = LEVEL) -> Estimate:
    """`estimate` of the mean of paired differences by seed; without an interval where they are fewer than `FEWEST`."""
    found = estimate([values], bounds, level)
    return found if found.n >= FEWEST else found._replace(low=nan, high=nan)


def describe(pairs: "pd.Series[float]", goal: str) -> dict[str, Any]:
    """Mean, 95 % interval and counts of paired differences by seed.

    Keys: n (pairs), difference, low, high, error (standard error), freedom (degrees of freedom), favourable and
    unfavourable (pairs in which the variant does better or worse), effect_dz (Cohen's d of the differences).
    """
    found = difference(pairs)
    better = pairs > 0 if goal == "max" else pairs < 0
    return {
        "n": len(pairs),
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "error": found.error,
        "freedom": found.freedom,
        "favourable": int(better.sum()),
        "unfavourable": int((pairs != 0).sum() - better.sum()),
        "effect_dz": cohens_dz(pairs),
    }


def judge(comparisons: Sequence[Comparison], looks: Looks | None = None) -> pd.DataFrame:
    """The table `paired` (`results.PAIRED`) of these comparisons: one row each, in their order."""
    return table(findings(comparisons, looks or Looks()))


def table(found: Sequence[Finding]) -> pd.DataFrame:
    """The same of findings that are known."""
    return pd.DataFrame([finding.row() for finding in found])


def open_comparisons(scores: pd.DataFrame, study: Study, look: int) -> list[tuple[str, str]]:
    """The (task, variant) that are still open after a look (counted from 1): they get the seeds of the next one.

    scores: of `frames.scores`. Only seeds below the look's number are used, and what an earlier look decided stays
    decided. A pair of which a run is lost is missing; it does not delay the look.
    """
    found = findings(compared(scores, study), looks_of(study), look)
    names = [finding.comparison.names for finding in found if not finding.decided_at]
    return [(name["task"], name["variant"]) for name in names]


def paired_differences(scores: pd.DataFrame, study: Study, by_setting: bool = False) -> pd.DataFrame:
    """Differences to the baseline with the verdict on each: the tables `paired` and `paired_settings`."""
    return judge(compared(scores, study, by_setting), looks_of(study))


def findings(comparisons: Sequence[Comparison], looks: Looks, until: int = 0) -> list[Finding]:
    """The findings on these comparisons, in their order. until: as in `decide`."""
    families: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        families.setdefault(comparison.names["variant"], []).append(comparison)
    found = {
        id(finding.comparison): finding for family in families.values() for finding in decide(family, looks, until)
    }
    return [found[id(comparison)] for comparison in comparisons]


def decide(family: Sequence[Comparison], looks: Looks, until: int = 0) -> list[Finding]:
    """The findings on one variant, after all looks that its comparisons have reached.

    until: take the looks up to this one as reached, whatever the state of the runs; later ones are not looked at.
    """
    # What is planned with fewer seeds than a test needs is no hypothesis of the family.
    tested = [min(looks.seeds[-1], comparison.planned) >= FEWEST for comparison in family]
    findings = [Finding(comparison, looks, sum(tested)) for comparison in family]
    for look in range(1, (until or len(looks.seeds)) + 1):
        for finding in findings:
            seeds = looks.seeds[look - 1]
            if not finding.decided_at and (until or seeds == inf or finding.comparison.reached(seeds)):
                finding.take(look)
        p = [[finding.p.get(name, nan) for finding in findings] for name in TESTS]
        aside = [finding.solved or not counts for finding, counts in zip(findings, tested, strict=True)]
        for finding, adjusted in zip(findings, testing.adjust_family(p, aside, ALPHA).T, strict=True):
            finding.adjusted = {
                name: nan if np.isnan(finding.p.get(name, nan)) else float(value)
                for name, value in zip(TESTS, adjusted, strict=True)
            }
        for finding in findings:
            if not finding.decided_at:
                finding.decide(look)
    return findings
