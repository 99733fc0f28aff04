"""What the runs cost: parameters, time and throughput, and the counts and timings of `cost.csv`."""

from pathlib import Path

import pandas as pd

from kvformer.analysis.frames import CELL, read_table, scores, to_numbers, usable
from kvformer.analysis.study import Study
from kvformer.errors import KvformerError

FILES = ("cost.csv", "profile.csv")
"""The file of costs, and its name in version 1."""
DRAWN = ("macs", "cache_bytes_per_token", "step_seconds", "peak_bytes")
"""Columns of cost.csv that figures draw."""
COMPARED = (
    *("parameters", "attention_parameters", "macs", "cache_bytes_per_token", "step_ratio", "peak_bytes"),
    "decode_tokens_per_second",
)
"""Columns that are compared with the baseline's, in the order of the report."""


def load_costs(results: Path) -> pd.DataFrame:
    """The measured costs of a study, keyed by some of task, setting and variant; empty where none were measured.

    Raises:
        KvformerError: it is not readable as CSV, has none of these columns, two rows of one key, or a cost that is
            drawn is not a number.
    """
    path = next((results / name for name in FILES if (results / name).exists()), None)
    if path is None:
        return pd.DataFrame(columns=CELL)
    costs = read_table(path, (), dtype=dict.fromkeys(CELL, str))
    keys = keys_of(costs)
    if not keys:
        raise KvformerError(f"{path}: has none of the columns {', '.join(CELL)}")
    if costs.duplicated(keys).any():
        raise KvformerError(f"{path}: two rows for the same {', '.join(keys)}")
    to_numbers(costs, [name for name in DRAWN if name in costs], path)
    return costs


def keys_of(costs: pd.DataFrame) -> list[str]:
    """Those of task, setting and variant that a file of costs is keyed by."""
    return [column for column in costs.columns if column in CELL]


def cost_table(runs: pd.DataFrame, study: Study, costs: pd.DataFrame) -> pd.DataFrame:
    """Medians over seeds per (task, setting, variant), followed by the columns of `costs`.

    ratio: samples per second over those of the baseline at the same seed.
    """
    done = scores(runs)
    done = done[done["status"] == "finished"]
    pair = ["task", "setting", "seed"]
    baseline = done.loc[done["variant"] == study.baseline, [*pair, "samples_per_second"]]
    done = done.merge(baseline, how="left", on=pair, suffixes=("", "_baseline"))
    done["ratio"] = done["samples_per_second"] / done["samples_per_second_baseline"]
    cells = done.groupby(CELL, sort=False)
    table = pd.concat(
        [
            cells.size().rename("n"),
            cells[["parameters", "attention_parameters"]].max(),
            cells[["seconds", "stepping_seconds", "samples_per_second", "ratio"]].median(),
        ],
        axis=1,
    ).reset_index()
    new = [name for name in costs if name not in table or name in CELL]
    return table.merge(costs[new], how="left", on=keys_of(costs))


def drawn_costs(runs: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """The costs of each (task, variant) that figures draw, averaged over settings."""
    table = usable(scores(runs)).groupby(CELL, sort=False)[["parameters"]].max().reset_index()
    names = [name for name in DRAWN if name in costs]
    table = table.merge(costs[keys_of(costs) + names], how="left", on=keys_of(costs))
    return table.groupby(["task", "variant"], sort=False).mean(numeric_only=True).reset_index()


def relative_costs(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """What each variant costs in each setting, as the change against the baseline in per cent.

    table: of `cost_table`. Steps are timed in turns, so `step_ratio` is a ratio already. Empty where no costs were
    measured.
    """
    if "macs" not in table:
        return pd.DataFrame()
    columns = [column for column in COMPARED if column in table]
    costs = table.melt(CELL, columns, var_name="cost").dropna()
    baseline = costs[costs["variant"] == study.baseline].drop(columns="variant")
    both = costs[costs["variant"] != study.baseline].merge(
        baseline, on=["task", "setting", "cost"], suffixes=("", "_baseline")
    )
    return both.assign(change=100 * (both["value"] / both["value_baseline"] - 1))


def savings(changes: pd.DataFrame) -> pd.DataFrame:
    """Median and range over tasks and settings of each variant's change of each cost, in per cent."""
    if changes.empty:
        return changes
    groups = changes.groupby(["variant", "cost"], sort=False)["change"]
    return groups.agg(settings="size", median="median", low="min", high="max").reset_index()
