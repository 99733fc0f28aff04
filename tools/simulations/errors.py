"""How often a rule says something false of a variant, and how often the intervals contain the true difference."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from kvformer.analysis import testing
from kvformer.analysis.statistics import holm
from kvformer.seeding import generator
from tools.simulations.designs import ALPHA, EACH_KIND, FEW, FIXED, LOOKS, NAIVE, Decided, Design, decide, looked
from tools.simulations.studies import NOISE, TRUTHS, Array, draw

DESIGNS = (FEW, FIXED, LOOKS, EACH_KIND, NAIVE)
VARIANTS = 5


def errors(studies: int, designs: tuple[Design, ...] = DESIGNS, noises: tuple[str, ...] = (*NOISE,)) -> pd.DataFrame:
    """Family-wise error: the share of studies in which at least one statement on a variant is false, by its kind."""
    rows = []
    for design in designs:
        for noise in noises:
            for name, truth in TRUTHS.items():
                rng = generator("errors", noise, name)
                differences = draw(rng, truth, noise, studies, design.looks[-1])
                found = decide(differences, design)
                rows.append({"design": design.name, "noise": noise, "truth": name, **false_statements(found, truth)})
    return pd.DataFrame(rows).assign(studies=studies)


def false_statements(found: Decided, truth: Array) -> dict[str, float]:
    """The share of studies with a false statement, by its kind, and with any."""
    false = {
        "difference": found.different & (truth == 0),
        "equivalence": found.equivalent & (np.abs(truth) >= 1),
        "not_worse": found.not_worse & (truth <= -1),
    }
    any_false = np.any([*false.values()], axis=0)
    return {name: flags.any(axis=1).mean() for name, flags in {**false, "any": any_false}.items()}


def overall_errors(studies: int) -> pd.DataFrame:
    """The overall verdict where no variant differs: mean over tasks, Student's t, Holm over variants."""
    rows = []
    for noise in NOISE:
        for seeds in (5, 12):
            tasks = draw(generator("overall", noise), np.zeros(VARIANTS * 14), noise, studies, seeds)
            means = tasks.reshape(studies, VARIANTS, 14, seeds).mean(axis=2)
            wrong = (holm(testing.t_p(means)) <= ALPHA).any(axis=1).mean()
            rows.append({"noise": noise, "seeds": seeds, "error": wrong, "studies": studies})
    return pd.DataFrame(rows)


def counts(studies: int, correlation: float) -> float:
    """How often "worse on at least k tasks" is too large: seven of fourteen are worse, by 1.2 standard deviations.

    correlation: between tasks, of the differences of a seed.
    """
    rng = generator("counts", str(correlation))
    shared, own = rng.normal(size=(studies, 1, 12)), rng.normal(size=(studies, 14, 12))
    truth = np.repeat([-1.2, 0.0], 7)[:, None]
    values = truth + np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    p = testing.sign_flip_p(values) / 2
    worse = np.where(values.mean(axis=-1) < 0, p, 1 - p)
    return float(np.mean([testing.simes_count(row, ALPHA) > 7 for row in worse]))


def intervals(studies: int) -> pd.DataFrame:
    """Coverage of the repeated intervals: at all looks together, and of the last one drawn, where the study stopped."""
    rows: list[dict[str, Any]] = []
    for design in (looked(8, 12, 20), LOOKS, NAIVE):
        for noise in NOISE:
            differences = draw(generator("intervals", noise), np.full(14, 0.5), noise, studies, design.looks[-1])
            inside = np.stack([*_holds(differences - 0.5, design)])
            stopped = decide(differences, design).seeds == np.array(design.looks)[:, None, None]
            rows.append({"design": design.name, "noise": noise, "all_looks": inside.all(axis=0).mean()})
            rows[-1] |= {"drawn": inside[stopped].mean(), "studies": studies}
    return pd.DataFrame(rows)


def _holds(errors_of_mean: Array, design: Design) -> Iterator[Any]:
    """At each look, whether the interval contains the true mean: whether the t test does not reject it at its level."""
    for look, n in enumerate(design.looks, start=1):
        yield testing.t_p(errors_of_mean[..., :n]) > 1 - testing.look_level(design.weights, look, ALPHA)
