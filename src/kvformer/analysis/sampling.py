"""How much of a difference's uncertainty comes from the seeds, and how much from a finite test set.

Where all seeds are tested on the same examples (images, text), the spread between seeds does not contain the error of
having drawn these examples and no others: it is common to all seeds, and more seeds do not reduce it. Where each seed
draws its own test examples (lists, sets), the spread contains it already.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from kvformer.analysis.comparisons import blocks
from kvformer.analysis.frames import usable
from kvformer.analysis.quantities import quantity
from kvformer.analysis.statistics import LEVEL
from kvformer.analysis.study import Study
from kvformer.errors import DataError
from kvformer.records.correct import unpack

Array = NDArray[np.float64]


class Parts(NamedTuple):
    """Variances of a mean difference over S seeds and m test examples.

    inside: the part of the variance between seeds that comes from their test examples. common: what the examples add to
    it if all seeds share them. terms: each mean square that `common` is made of, divided by S·m, with its degrees of
    freedom.
    """

    inside: float
    common: float
    terms: tuple[tuple[float, float], ...]


def crossed(differences: Array) -> Parts:
    """Variances where all seeds are tested on the same examples. differences: (S, m).

    Two-way random-effects model without replication, y_si = μ + a_s + b_i + e_si, estimated by analysis of variance:
    E(MS_seeds) = σ²_e + m·σ²_a, E(MS_examples) = σ²_e + S·σ²_b, E(MS_rest) = σ²_e. The variance of the mean,
    σ²_a/S + σ²_b/m + σ²_e/(S·m), is estimated by (MS_seeds + MS_examples − MS_rest)/(S·m). The variance between seeds,
    which gives the paired interval, is MS_seeds/(S·m) alone: it has σ²_e/(S·m) (`inside`) and not σ²_b/m (`common`; a
    negative estimate counts as zero). Source: Searle, Casella & McCulloch, Variance Components (1992), section 4.7.
    """
    seeds, examples = differences.shape
    size, freedom = seeds * examples, (seeds - 1) * (examples - 1)
    total = differences.mean()
    by_seed, by_example = differences.mean(axis=1, keepdims=True), differences.mean(axis=0, keepdims=True)
    of_examples = seeds * float(((by_example - total) ** 2).sum()) / (examples - 1)
    rest = float(((differences - by_seed - by_example + total) ** 2).sum()) / freedom
    common = max(0.0, (of_examples - rest) / size)
    terms = ((of_examples / size, examples - 1.0), (rest / size, float(freedom))) if common else ()
    return Parts(rest / size, common, terms)


def nested(differences: Sequence[Array]) -> Parts:
    """Variances where each seed has its own examples. differences: (m,) of each of S seeds.

    One-way random-effects model, y_si = μ + a_s + e_si: the variance between seeds is σ²_a/S + Σ_s σ²_s/m_s/S², with
    the variance σ²_s inside of seed s. Source: Searle, Casella & McCulloch, section 3.5.
    """
    inside = sum(float(values.var(ddof=1)) / len(values) for values in differences) / len(differences) ** 2
    return Parts(inside, 0.0, ())


def sampling(scores: pd.DataFrame, correct: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The table `sampling` of `results.Results`: a row per task and variant with two pairs or more.

    scores: as for `comparisons`. correct: of `frames.load_correct`. A pair needs both sides' answers to the same
    examples, two at least; over a grid, a pair is a seed that has them at every setting, and counts with the mean over
    the settings.
    """
    answers = correct.drop_duplicates("path").set_index("path").to_dict("index")
    rows = []
    for block in blocks(scores, study) if answers else ():
        if block.variant == study.baseline:
            continue
        groups = [_differences(block.runs, block.baseline, name, answers) for name in block.settings]
        # A setting without a pair is not in the mean, as in the tables.
        groups = [group for group in groups if group]
        seeds = sorted(set.intersection(*map(set, groups))) if groups else []
        if len(seeds) < 2:
            continue
        pairs = [[group[seed] for seed in seeds] for group in groups]
        rows.append({"task": block.task, "variant": block.variant, **decompose(pairs, quantity(block.metric).bounds)})
    return pd.DataFrame(rows)


Pair = tuple[str, Array]
"""A digest of the test examples, and the differences on each of them, whose mean is that of the metric."""


def _differences(
    runs: pd.DataFrame, baseline: pd.DataFrame, setting: str, answers: dict[Any, dict[Any, str]]
) -> dict[int, Pair]:
    """Per seed the pair at a setting.

    Raises:
        DataError: an answer is damaged.
    """
    sides = []
    for side in (runs, baseline):
        done = usable(side)
        done = done[(done["setting"] == setting) & done["path"].isin(answers)]
        sides.append(dict(zip(done["seed"], done["path"], strict=True)))
    found = {}
    for seed in sides[0].keys() & sides[1].keys():
        ours, theirs = (answers[side[seed]] for side in sides)
        if ours["examples"] == theirs["examples"]:
            try:
                right, others, scored = unpack(ours["right"]), unpack(theirs["right"]), unpack(ours["scored"])
            except DataError as error:
                raise DataError(f"correct.csv.gz: {sides[0][seed]} or {sides[1][seed]}: {error}") from None
            if scored.size > 1:  # a single example says nothing of the spread between examples
                # The metric is a mean over positions: an example counts by the number of its positions.
                found[int(seed)] = ours["examples"], (right - others) / scored.mean()
    return found


def decompose(settings: list[list[Pair]], bounds: tuple[float, float]) -> dict[str, Any]:
    """Where the variance of a mean difference comes from. settings: per setting the pairs of the same seeds.

    Columns: `test_sets` (`shared` by all seeds, `own` of each, or `mixed` over the settings); n (seeds); examples (per
    seed, over all settings); difference; low, high (the 95 % interval with both sources of error, by the t distribution
    with Satterthwaite's degrees of freedom); seed_share, test_share (of its variance: what an unlimited test set would
    leave, and what it would remove; NaN without any variance); wider (this interval over the paired one); floor (half
    the width that is left with unlimited seeds).
    """
    parts, kinds, n = [], set(), len(settings[0])
    for pairs in settings:
        shared = len({examples for examples, _ in pairs}) == 1
        kinds.add("shared" if shared else "own")
        values = [differences for _, differences in pairs]
        parts.append(crossed(np.stack(values)) if shared else nested(values))
    count = len(settings)
    means = np.mean([[values.mean() for _, values in pairs] for pairs in settings], axis=0)
    between = float(means.var(ddof=1)) / n
    inside, common = (sum(getattr(part, name) for part in parts) / count**2 for name in ("inside", "common"))
    total = between + common
    squares = between**2 / (n - 1) + sum((value / count**2) ** 2 / free for part in parts for value, free in part.terms)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, total**2 / squares)) * np.sqrt(total) if total else 0.0
    paired = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * np.sqrt(between)
    mean, test = float(means.mean()), min(inside + common, total) / total if total else np.nan
    return {
        "test_sets": kinds.pop() if len(kinds) == 1 else "mixed",
        "n": n,
        "examples": sum(len(pairs[0][1]) for pairs in settings),
        "difference": mean,
        "low": max(mean - half, bounds[0] - bounds[1]),
        "high": min(mean + half, bounds[1] - bounds[0]),
        "seed_share": 1 - test,
        "test_share": test,
        "wider": half / paired if paired else np.nan,
        "floor": float(stats.norm.ppf(0.5 + LEVEL / 2)) * np.sqrt(common),
    }
