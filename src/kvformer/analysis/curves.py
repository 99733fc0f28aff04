"""`curve_means.csv.gz`: the curves of a study averaged over seeds, so that figures only draw them."""

from pathlib import Path

import numpy as np
import pandas as pd

from kvformer.analysis.collect import gzip_text
from kvformer.analysis.frames import KEYS, load_curves, load_runs, read_table, scores
from kvformer.analysis.results import Results

FILE = "curve_means.csv.gz"
POINT = ["step", "epoch", "elapsed", "mean", "low", "high"]
CURVE = ["task", "variant", "metric"]
COLUMNS = [*CURVE, "setting", "seed", *POINT]
"""setting: empty where all settings are averaged. seed: empty for a mean over seeds with
the lowest and the highest one; a run that diverged has its number, and its values as `mean`."""
BY_SETTING = "validation/loss"
"""The metric that is also averaged at each setting of a grid."""
SMOOTH_ABOVE = 200
"""Curves with more points than this are smoothed by a moving average over a hundredth of their points."""


def average_curves(results: Results, curves: pd.DataFrame | None = None) -> pd.DataFrame:
    """The averaged curves of every task, variant and metric, and the curves of runs that diverged.

    curves: rows of curves.csv.gz, where they were read before.

    Raises:
        KvformerError: runs.csv or curves.csv.gz is missing or malformed.
    """
    curves = load_curves(results.folder) if curves is None else curves
    runs = scores(load_runs(results.folder))
    diverged = pd.MultiIndex.from_frame(runs.loc[runs["status"] == "diverged", KEYS])
    gone = pd.MultiIndex.from_frame(curves[KEYS]).isin(diverged) if len(diverged) else np.zeros(len(curves), dtype=bool)
    apart = curves[gone].sort_values(["setting", "seed"], kind="stable").rename(columns={"value": "mean"})
    whole = curves[~gone]
    means = [apart.assign(seed=apart["seed"].astype(str)), average(whole, CURVE)]
    grids = [task for task in results.study.tasks if len(results.study.settings(task)) > 1]
    if grids:
        loss = whole[(whole["metric"] == BY_SETTING) & whole["task"].isin(grids)]
        means.append(average(loss, [*CURVE, "setting"]))
    return pd.concat(means, ignore_index=True).reindex(columns=COLUMNS).fillna({"setting": "", "seed": ""})


def average(curves: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Mean, lowest and highest seed (mean, low, high) at the steps that all seeds and all settings of a curve have.

    curves: rows of curves.csv.gz. keys: the columns that tell curves apart. Settings are averaged first, seeds last, as
    in the paper. Epoch and wall-clock of a step are means over runs. A curve without any such step is left out.
    """
    curve = curves.groupby(keys, sort=False).ngroup().rename("curve")
    # A setting of which every run diverged is not in the mean, as in the tables.
    settings = curves["setting"].groupby(curve).nunique()
    grouped = curves.groupby([curve, "step", "seed"])[["value", "epoch", "elapsed"]]
    sizes = grouped.size().reset_index(name="size")
    points = grouped.mean().reset_index()[sizes["size"] == sizes["curve"].map(settings)]
    seeds = points.groupby("curve")["seed"].nunique()
    known = points["value"].notna().groupby([points["curve"], points["step"]]).transform("sum")
    points = points[known == points["curve"].map(seeds)]
    names = curves[keys].groupby(curve).first()
    if points.empty:
        return pd.DataFrame()
    means = {number: _over_seeds(group, int(seeds[number])) for number, group in points.groupby("curve")}
    return pd.concat(means, names=["curve"]).reset_index("curve").join(names, on="curve").drop(columns="curve")


def _over_seeds(points: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """One curve; points: sorted by step, then seed, each step with all `seeds`."""
    columns = {name: points[name].to_numpy(float).reshape(-1, seeds) for name in ("step", "epoch", "elapsed", "value")}
    window = len(columns["value"]) // 100 if len(columns["value"]) > SMOOTH_ABOVE else 1
    if window > 1:
        kernel = np.full(window, 1 / window)
        for name, values in columns.items():
            columns[name] = np.stack([np.convolve(column, kernel, mode="valid") for column in values.T], axis=1)
    values = columns.pop("value")
    along = {name: column.mean(axis=1) for name, column in columns.items()}
    return pd.DataFrame(along | {"mean": values.mean(axis=1), "low": values.min(axis=1), "high": values.max(axis=1)})


def write_curves(curves: pd.DataFrame, results: Path) -> Path:
    """Write `curve_means.csv.gz` into the study's folder; equal curves give equal bytes."""
    with gzip_text(results / FILE) as stream:
        curves.to_csv(stream, index=False, lineterminator="\n")
    return results / FILE


def read_curves(results: Path) -> pd.DataFrame:
    """Read `curve_means.csv.gz`.

    Raises:
        KvformerError: the file is missing, damaged, or has no column of `COLUMNS`.
    """
    text = dict.fromkeys(("task", "setting", "variant", "metric", "seed"), str)
    missing = f"no such file; `kvformer analyse {results}` makes it"
    empty = {name: [""] for name in POINT}
    return read_table(results / FILE, COLUMNS, missing, dtype=text, keep_default_na=False, na_values=empty)
