"""Published numbers next to ours: which settings of ours match theirs, and by how much the results differ."""

from collections.abc import Hashable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import pandas as pd

from kvformer.analysis import statistics
from kvformer.analysis.frames import by_setting, paired_by_setting, read_table, to_numbers, usable
from kvformer.analysis.quantities import quantity, short_key
from kvformer.analysis.study import Study
from kvformer.data.datasets import DATASETS

COLUMNS = [
    *("study", "family", "task", "setting", "variant", "metric", "mean", "std", "n", "origin", "status"),
    *("compare_with", "factor", "conditions"),
]
DIFFERENCE = "difference "
SETTINGS_OF = "borji2023"
"""The study from which the published settings of our tasks are. Of other studies only their conditions are known."""
UNKNOWN_GRID = "the published grid is not known"
UNKNOWN_REST = "the rest of its setting is not known"
NO_EFFECT = {"training.record_every", "training.threads"}
"""Keys that change no result, or no more than its last digits."""
SHOWN_REASONS = 4
Row = Mapping[Hashable, Any]


def load_published(path: Path) -> pd.DataFrame:
    """Read the table of published numbers (config/published.csv).

    `compare_with` is the metric of ours that measures the same thing (empty: none does), after `difference ` the paired
    difference in it to the variant that ends the name of the published metric (`…_vs_qkv`); `factor` turns the
    published unit into ours. `conditions` are values of the published setting (`protocol=published model.dim=64`); a
    mean over a grid names all values of a key (`model.dim=64|256`), or nothing where the grid is not known.

    Raises:
        KvformerError: the file is not readable as CSV, a column is missing, or one that must hold numbers does not.
    """
    table = read_table(path, COLUMNS, dtype=str, keep_default_na=False)
    to_numbers(table, ("mean", "std", "n", "factor"), path)
    table[["mean", "std"]] = table[["mean", "std"]].mul(table["factor"], axis=0)
    return table


def compare_published(runs: pd.DataFrame, study: Study, published: pd.DataFrame) -> pd.DataFrame:
    """The published rows of this study's tasks and variants; a single setting that conflicts with ours is left out.

    Columns: those of the published table in our units, then ours, low, high, n_ours, settings (those of ours that are
    compared), differs (in words, empty where the setting is the same), difference, deviation (in half-widths of our
    interval; NaN unless the setting is the same). Tasks in the study's order.
    """
    done = usable(runs)
    rows: list[dict[str, Any]] = []
    ours = published["task"].isin(study.tasks) & published["variant"].isin(study.variants)
    for row in published[ours & (published["compare_with"] != "")].to_dict("records"):
        if row["compare_with"].startswith(DIFFERENCE) and not row["metric"].endswith(f"_vs_{study.baseline}"):
            continue
        conditions = {
            key: value.split("|") for key, _, value in (part.partition("=") for part in row["conditions"].split())
        }
        grid = not conditions or any(len(values) > 1 for values in conditions.values())
        of_task = done[done["task"] == row["task"]]
        groups, bounds = _ours(of_task, study, row)
        inside = [name for name in groups if not list(_conflicts(_configuration(study, row, name)[0], conditions))]
        settings = inside or (list(groups) if grid else [])
        if not settings:
            continue
        labels = set(of_task.loc[of_task["setting"].isin(settings), "data_label"])
        differs = _differs(study, row, settings, conditions, labels)
        found = statistics.estimate([groups[name] for name in settings], bounds)
        difference, half = found.mean - row["mean"], found.half_width
        rows.append(
            {str(key): value for key, value in row.items()}
            | {"ours": found.mean, "low": found.low, "high": found.high, "n_ours": found.n}
            | {"settings": ", ".join(settings) if len(settings) <= 3 else f"{len(settings)} settings"}
            | {"differs": differs, "difference": difference}
            | {"deviation": difference / half if half > 0 and not differs else float("nan")}
        )
    return pd.DataFrame([row for task in study.tasks for row in rows if row["task"] == task])


def _ours(of_task: pd.DataFrame, study: Study, row: Row) -> tuple[dict[str, pd.Series], tuple[float, float]]:
    """Our values of the published metric (or differences in it) by seed for each setting, and their bounds."""
    metric = row["compare_with"].removeprefix(DIFFERENCE)
    low, high = quantity(metric).bounds
    of_metric = of_task[of_task["metric"] == metric]
    ours = of_metric[of_metric["variant"] == row["variant"]]
    if metric == row["compare_with"]:
        return by_setting(ours), (low, high)
    return paired_by_setting(ours, of_metric[of_metric["variant"] == study.baseline]), (low - high, high - low)


def _configuration(study: Study, row: Row, setting: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values by dotted key of our runs at a setting, and the published value of each key in which they depart from
    the published setting."""
    known, entry = study.configurations[row["task"], setting], study.sections.get((row["task"], setting))
    published = known | (entry.departures if entry else {})
    known = known | study.tuned.get((row["task"], setting, row["variant"]), {})
    if row["compare_with"].startswith(DIFFERENCE):  # a departure of either side counts
        others = study.tuned.get((row["task"], setting, study.baseline), {})
        known = known | {key: value for key, value in others.items() if value != published[key]}
    return known, {key: value for key, value in published.items() if value != known[key]}


def _conflicts(known: Mapping[str, Any], conditions: Mapping[str, list[str]]) -> Iterator[str]:
    """The conditions that a setting of ours does not meet, in words."""
    for key, values in conditions.items():
        if key in known and not any(_same(known[key], value) for value in values):
            yield f"{short_key(key)} {_text(key, known[key])} ({' or '.join(values)})"


def _differs(study: Study, row: Row, settings: list[str], conditions: Mapping[str, list[str]], labels: set[str]) -> str:
    """How our settings differ from the published one, or from the whole published grid; empty where they do not.

    labels: of the data that our runs read; a stand-in has another than its data set.
    """
    reasons = [] if conditions else [UNKNOWN_GRID]
    for setting in settings:
        known, departures = _configuration(study, row, setting)
        dataset = DATASETS.get(str(known.get("data.dataset")))
        reasons += [f"data {label} ({dataset.label})" for label in sorted(labels) if dataset and label != dataset.label]
        reasons += _conflicts(known, conditions)
        reasons += [
            f"{short_key(key)} not recorded here ({' or '.join(values)})"
            for key, values in conditions.items()
            if key not in known
        ]
        if row["study"] == SETTINGS_OF:
            reasons += [
                f"{short_key(key)} {_text(key, known[key])} ({_text(key, value)})"
                for key, value in departures.items()
                if key not in conditions and _matters(key, known)
            ]
    size = prod(map(len, conditions.values()))
    if not reasons and len(settings) < size:
        reasons = [f"{len(settings)} of {size} settings of the grid"]
    if row["study"] != SETTINGS_OF and conditions:
        reasons.append(UNKNOWN_REST)
    words = list(dict.fromkeys(reasons))
    more = len(words) - SHOWN_REASONS
    return "; ".join([*words[:SHOWN_REASONS], *([f"{more} more"] if more > 0 else [])])


def _matters(key: str, known: Mapping[str, Any]) -> bool:
    """Whether a key can change a result.

    How often is evaluated does so only where evaluations select the weights; in batches of which size, where padding
    counts.
    """
    if key == "training.evaluations":
        return known.get("training.select") == "best"
    if key == "training.evaluation_batch_size":
        return "data.loss_rows" in known
    return key not in NO_EFFECT


def _text(key: str, value: object) -> str:
    if value is None:
        return "all" if key.endswith(("examples", "sets")) else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _same(ours: object, published: str) -> bool:
    try:
        return float(str(ours)) == float(published)
    except ValueError:
        return str(ours) == published
