"""Comparisons with made-up differences: the input of the rule, without a study around it."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from kvformer.analysis.comparisons import Comparison

NAN = float("nan")


def comparison(
    differences: Sequence[float],
    task: str = "sort",
    variant: str = "kv",
    goal: str = "max",
    margin: float | None = 0.01,
    solvable: bool = False,
    baseline: float = 0.5,
    lost: Iterable[tuple[str, int, str]] = (),
    planned: int = 0,
) -> Comparison:
    """A comparison with these differences (variant minus baseline) of seeds 0, 1, ….

    baseline: its value in every seed. lost: (variant, seed, status) of runs without a value. planned: seeds that the
    study asks for, where they are more than there are differences; their runs are missing.
    """
    fates = {(name, seed): status for name, seed, status in lost}
    runs = []
    for seed in range(max(planned, len(differences))):
        for name in (variant, "qkv"):
            status = fates.get((name, seed), "finished" if seed < len(differences) else "missing")
            value = (baseline + (differences[seed] if name == variant else 0)) if status == "finished" else NAN
            runs.append({"setting": "default", "variant": name, "seed": seed, "status": status, "value": value})
    gone = {seed for _, seed in fates}
    pairs = pd.Series({seed: value for seed, value in enumerate(differences) if seed not in gone}, dtype=float)
    metric = "test/accuracy" if goal == "max" else "validation/loss"
    names = {"task": task, "setting": "default", "variant": variant, "metric": metric, "goal": goal}
    return Comparison(names, margin, pairs, pd.DataFrame(runs), solvable)


def spread(mean: float, n: int, size: float = 0.001) -> list[float]:
    """n different differences with exactly this mean."""
    return list(mean + size * np.linspace(-1, 1, n))
