"""Loss against size, tokens and compute: the scaling law of a study, and what each variant is worth in it.

The study names the task (`scaling` in its configuration). A setting is a model of one size, trained on one number of
tokens; sizes are counted for the baseline, as a variant has other numbers of parameters at the same width.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from kvformer.analysis.decisions import difference
from kvformer.analysis.frames import CELL, usable
from kvformer.analysis.scaling_law import NAMES, Law, Points, fit, intervals, paired_means
from kvformer.analysis.statistics import ROUNDING, Array, Estimate, estimate
from kvformer.analysis.study import Study
from kvformer.config.run import RunConfig
from kvformer.config.scaling import FEWEST as FEWEST_SETTINGS
from kvformer.spec.formulas import block_parameters
from kvformer.spec.variants import VARIANTS

OPERATIONS = 6
"""Floating-point operations of a training step per multiply-accumulate of its forward pass: two, and twice as many for
the backward pass (Kaplan et al. 2020, arXiv 2001.08361, section 2.1)."""

UNKNOWN = {
    f"{name}{end}": np.nan for name in ("worth", "compute", "gap", "slope", "error") for end in ("", "_low", "_high")
}
"""What is not known of a variant until it is computed."""


def scaling(scores: pd.DataFrame, costs: pd.DataFrame, study: Study) -> dict[str, pd.DataFrame]:
    """The tables `scaling`, `scaling_law` and `scaling_variants` of `results.Results`; none where the study has no task
    for them.

    scores: rows of runs.csv, one per expected run. costs: of `cost.cost_table`; if none were measured, compute is
    unknown.
    """
    task = study.manifest.scaling
    if task is None or task not in study.tasks:
        return {}
    cells = _cells(scores[scores["task"] == task], costs, study, task)
    losses = _losses(scores[scores["task"] == task], cells)
    points = Points(cells["parameters"].to_numpy(), cells["tokens"].to_numpy(), cells["place"].to_numpy(), losses)
    largest = cells["size"].max()
    laws = _Laws(points, (cells["size"] == largest).to_numpy(), cells)
    return {
        "scaling": pd.DataFrame(_point_rows(cells, points, laws)),
        "scaling_law": pd.DataFrame(laws.constants()),
        "scaling_variants": pd.DataFrame(_variant_rows(cells, points, laws)),
    }


def _cells(scores: pd.DataFrame, costs: pd.DataFrame, study: Study, task: str) -> pd.DataFrame:
    """One row per variant and setting, variants outermost, the baseline first, settings by size and tokens.

    size: N of the baseline at the setting. place: the variant's, 0 for the baseline.
    """
    runs = {(run.variant, run.setting): run for run in study.runs if run.task == task}
    names = [name for name in study.variants if any(variant == name for variant, _ in runs)]
    rows = []
    for place, name in enumerate(names):
        for setting in study.settings(task):
            if (name, setting) not in runs:
                continue
            run = RunConfig.from_entry(runs[name, setting], study.sections[task, setting])
            shape, kind = run.definition.shape(run.data, None), run.definition.architecture
            sizes = [block_parameters(kind, VARIANTS[v], run.model, shape) for v in (study.baseline, name)]
            examples = float((run.training.steps or 0) * run.training.batch_size)
            keys = {"task": task, "setting": setting, "variant": name, "place": place, "examples": examples}
            rows.append({**keys, "size": sizes[0], "parameters": float(sizes[1]), "tokens": examples * shape.length})
    cells = pd.DataFrame(rows).sort_values(["place", "size", "tokens"], kind="stable", ignore_index=True)
    cells = cells.merge(costs.reindex(columns=[*CELL, "macs"]), how="left", on=CELL)
    cells["compute"] = OPERATIONS * cells["macs"] * cells["examples"]
    total = scores.groupby(["setting", "variant"])["parameters"].max().rename("total").reset_index()
    return cells.merge(total, how="left", on=["setting", "variant"])


def _losses(scores: pd.DataFrame, cells: pd.DataFrame) -> Array:
    """The losses of the runs that finished, (cells, seeds), NaN elsewhere."""
    done = usable(scores).set_index(["setting", "variant", "seed"])["value"].unstack()
    seeds = sorted(scores["seed"].unique())
    places = pd.MultiIndex.from_frame(cells[["setting", "variant"]])
    return np.asarray(done.reindex(index=places, columns=seeds).to_numpy(float))


class _Laws:
    """The law of all points, and the one of the points without the largest size, with their intervals; None where there
    are too few points."""

    def __init__(self, points: Points, held_out: np.ndarray, cells: pd.DataFrame) -> None:
        self.points, self.held_out, self.cells = points, held_out, cells
        self.means = paired_means(points)
        self.whole = self._fit(self.means, np.ones(len(held_out), bool))
        self.smaller = self._fit(self.means, ~held_out)
        if self.whole is not None:
            self.low, self.high = intervals(points, self._logs, self._logs(self.means))
        if self.smaller is not None:
            self.errors = self._errors(self.means)
            self.errors_low, self.errors_high = intervals(points, self._errors, self.errors)

    def _fit(self, means: Array, chosen: np.ndarray, start: Law | None = None) -> Law | None:
        """The law of the chosen points; None where they have too few sizes or numbers of tokens."""
        known = chosen & np.isfinite(means)
        if self.cells.loc[known, ["size", "tokens"]].nunique().min() < FEWEST_SETTINGS:
            return None
        return fit(self.points.where(known), means[known], self.points.variants, start)

    def _logs(self, means: Array) -> Array:
        law = self._fit(means, np.ones(len(means), bool), self.whole)
        return np.full(len(NAMES) + self.cells["place"].nunique(), np.nan) if law is None else law.logs

    def _errors(self, means: Array) -> Array:
        """Predicted over measured loss of each held-out point minus 1, then the mean of each variant's, in per cent."""
        law, count = self._fit(means, ~self.held_out, self.smaller), self.cells["place"].nunique()
        chosen = self.points.where(self.held_out)
        if law is None:
            return np.full(len(chosen.parameters) + count, np.nan)
        predicted = law.loss(chosen.parameters, chosen.tokens, chosen.variant)
        errors = 100 * (predicted / means[self.held_out] - 1)
        return np.concatenate([errors, errors.reshape(count, -1).mean(axis=1)])

    def constants(self) -> Iterator[dict[str, Any]]:
        """Rows of the table `scaling_law`."""
        if self.whole is None:
            return
        for place, name in enumerate(NAMES):
            value, low, high = np.exp([self.whole.logs[place], self.low[place], self.high[place]])
            yield {"quantity": name, "value": value, "low": low, "high": high}

    def worth(self, place: int) -> dict[str, float]:
        """m of a variant, and how much more compute it needs than the baseline for a loss, in per cent.

        With C = k·N·D the law depends on m·C/k alone, wherever on the way to the loss: at equal tokens, or at the best
        N and D. k, operations per parameter and token, is that of the largest size.
        """
        if self.whole is None:
            return {}
        logs = np.array([column[len(NAMES) + place] for column in (self.whole.logs, self.low, self.high)])
        per_parameter = self.cells["compute"] / (self.cells["parameters"] * self.cells["tokens"])
        largest = self.cells[self.held_out].assign(k=per_parameter).groupby("place")["k"].mean()
        more = 100 * (largest[place] / largest[0] / np.exp(logs) - 1)
        worth = dict(zip(("worth", "worth_low", "worth_high"), np.exp(logs), strict=True))
        return worth | dict(zip(("compute", "compute_high", "compute_low"), more, strict=True))


def _point_rows(cells: pd.DataFrame, points: Points, laws: _Laws) -> Iterator[dict[str, Any]]:
    """Rows of the table `scaling`."""
    everything = points.parameters, points.tokens, points.variant
    fitted, predicted = (
        np.full(len(cells), np.nan) if law is None else law.loss(*everything) for law in (laws.whole, laws.smaller)
    )
    base = points.losses[points.variant == 0]
    names = [*("task", "setting", "variant", "size", "parameters", "total", "tokens", "compute")]
    for place, cell in enumerate(cells.to_dict("records")):
        row = {name: cell[name] for name in names}
        row |= _named("loss", estimate([_known(points.losses[place])]))
        gaps = _known(points.losses[place] - base[place % len(base)])
        if cell["place"]:
            row |= _named("gap", difference(gaps))
        row |= {"n": len(_known(points.losses[place])), "expected": points.losses.shape[1], "fitted": fitted[place]}
        yield row | {"held_out": bool(laws.held_out[place]), "predicted": predicted[place]}


def _variant_rows(cells: pd.DataFrame, points: Points, laws: _Laws) -> Iterator[dict[str, Any]]:
    """Rows of the table `scaling_variants`."""
    base = points.losses[points.variant == 0]
    sizes, tokens = cells.loc[cells["place"] == 0, "size"], cells.loc[cells["place"] == 0, "tokens"]
    for place, name in enumerate(cells["variant"].unique()):
        gaps = points.losses[points.variant == place] - base
        whole = gaps[:, np.isfinite(gaps).all(axis=0)]
        row: dict[str, Any] = {"variant": name, "n": whole.shape[1], "trend": "", **UNKNOWN, **laws.worth(place)}
        if laws.smaller is not None:
            index = int(laws.held_out.sum()) + place
            limits = (laws.errors[index], laws.errors_low[index], laws.errors_high[index])
            row |= dict(zip(("error", "error_low", "error_high"), limits, strict=True))
        if place and whole.shape[1]:
            slopes = _slopes(whole, sizes.to_numpy(float), tokens.to_numpy(float))
            mean, slope = difference(whole.mean(axis=0)), difference(slopes)
            row |= {**_named("gap", mean), **_named("slope", slope), "trend": trend(mean, slope)}
        yield row


def _slopes(gaps: Array, sizes: Array, tokens: Array) -> Array:
    """The change of the gap per tenfold size at equal tokens, of each seed: least squares in log N and log D."""
    design = np.column_stack([np.ones(len(sizes)), np.log10(sizes), np.log10(tokens)])
    if np.ptp(design[:, 1]) == 0:
        return np.empty(0)
    return np.asarray(np.linalg.lstsq(design, gaps, rcond=None)[0][1])


def trend(gap: Estimate, slope: Estimate) -> str:
    """Whether a gap `grows` or `shrinks` with size: the interval of its slope excludes 0; else `neither`.

    A gap below 0, a lead, grows downwards. Empty where there is no interval.
    """
    low, high = (-slope.high, -slope.low) if gap.mean < 0 else (slope.low, slope.high)
    if np.isnan(low):
        return ""
    return "grows" if low > ROUNDING else "shrinks" if high < -ROUNDING else "neither"


def _named(name: str, found: Estimate) -> dict[str, float]:
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}


def _known(values: Array) -> Array:
    return np.asarray(values[np.isfinite(values)])
