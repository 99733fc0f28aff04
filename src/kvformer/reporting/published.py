"""Published numbers beside ours, with the deviation in units of our interval."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kvformer.errors import KvformerError
from kvformer.reporting import statistics
from kvformer.reporting.frames import usable
from kvformer.reporting.nuisance import values_text
from kvformer.reporting.render import Table, number, signed, whole
from kvformer.reporting.study import Study

COLUMNS = [
    *("study", "family", "task", "setting", "variant", "metric", "mean", "std", "n", "origin", "status"),
    *("compare_with", "factor", "conditions"),
]
DIFFERENCE = "difference "
CAPTION = (
    "Published numbers beside ours. Deviation: ours minus published, in half-widths of our 95 % interval; beyond ±1 "
    "the published number lies outside it. Sizes, steps and data may differ from the published ones: setting there "
    "and setting here say what is compared; unchecked names conditions of the published setting that this study's "
    "files do not show. Origin and status say where each published number was found and how sure it is."
)


def load_published(path: Path) -> pd.DataFrame:
    """Read the table of published numbers (config/published.csv).

    `compare_with` is the metric of ours that measures the same thing (empty: none does), after `difference ` the paired
    difference in it; `factor` turns the published unit into ours. `conditions` are values of the published setting
    (`protocol=published model.dim=64`), empty for a mean over a grid that is compared as a whole.

    Raises:
        KvformerError: columns are lacking or a number is none.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    lacking = [column for column in COLUMNS if column not in table.columns]
    if lacking:
        raise KvformerError(f"{path}: lacks the columns {', '.join(lacking)}")
    for column in ("mean", "std", "n", "factor"):
        try:
            table[column] = table[column].replace("", "nan").astype(float)
        except ValueError as error:
            raise KvformerError(f"{path}: column {column} must hold numbers ({error})") from None
    table[["mean", "std"]] = table[["mean", "std"]].mul(table["factor"], axis=0)
    return table


def compare_published(runs: pd.DataFrame, study: Study, published: pd.DataFrame) -> pd.DataFrame:
    """The published rows that this study can be held against; a setting that conflicts with ours is left out.

    Columns: those of the published table in our units, then ours, low, high, n_ours, settings (ours that take part),
    unchecked (conditions that our files do not show), deviation.
    """
    done = usable(runs)
    rows: list[dict[str, Any]] = []
    ours = published["task"].isin(study.tasks) & published["variant"].isin(study.variants)
    for row in published[ours & (published["compare_with"] != "")].to_dict("records"):
        conditions = dict(part.split("=", 1) for part in row["conditions"].split())
        groups = _our_groups(done[done["task"] == row["task"]], study, row)
        protocol = conditions.pop("protocol", None)
        if protocol:
            allowed = set(done.loc[done["protocol"] == protocol, "setting"])
            groups = {setting: values for setting, values in groups.items() if setting in allowed}
        known = {setting: study.configurations[row["task"], setting] for setting in groups}
        settings = [name for name, values in known.items() if _agrees(values, conditions)]
        if not settings:
            continue
        unchecked = {
            key: value for key, value in conditions.items() if not any(key in known[name] for name in settings)
        }
        found = statistics.estimate([groups[name] for name in settings])
        half = (found.high - found.low) / 2
        rows.append(
            {str(key): value for key, value in row.items()}
            | {"ours": found.mean, "low": found.low, "high": found.high, "n_ours": found.n}
            | {"settings": ", ".join(settings) if len(settings) <= 3 else f"{len(settings)} settings"}
            | {"unchecked": values_text(unchecked)}
            | {"deviation": (found.mean - row["mean"]) / half if half > 0 else float("nan")}
        )
    return pd.DataFrame(rows)


def _our_groups(of_task: pd.DataFrame, study: Study, row: Mapping[Hashable, Any]) -> dict[str, pd.Series]:
    """Per setting our values of the published metric, or their differences to the baseline, by seed."""
    difference = row["compare_with"].startswith(DIFFERENCE)
    of_metric = of_task[of_task["metric"] == row["compare_with"].removeprefix(DIFFERENCE)]

    def by_setting(variant: str) -> dict[str, pd.Series]:
        mine = of_metric[of_metric["variant"] == variant]
        return {str(name): group.set_index("seed")["value"] for name, group in mine.groupby("setting", sort=False)}

    ours = by_setting(row["variant"])
    if not difference:
        return ours
    theirs = by_setting(study.baseline)
    groups = {name: (values - theirs[name]).dropna() for name, values in ours.items() if name in theirs}
    return {name: values for name, values in groups.items() if len(values)}


def _agrees(known: Mapping[str, Any], conditions: Mapping[str, str]) -> bool:
    return all(_same(known[key], value) for key, value in conditions.items() if key in known)


def _same(ours: object, published: str) -> bool:
    try:
        return float(str(ours)) == float(published)
    except ValueError:
        return str(ours) == published


def published_table(runs: pd.DataFrame, study: Study, path: Path) -> Table:
    """`compare_published` as a table; empty where there is no file or nothing to compare."""
    rows = compare_published(runs, study, load_published(path)) if path.exists() else pd.DataFrame()
    if rows.empty:
        return Table("published", CAPTION, pd.DataFrame())
    order = {task: index for index, task in enumerate(study.tasks)}
    rows = rows.sort_values("task", key=lambda names: names.map(order), kind="stable").reset_index(drop=True)
    here = rows["settings"] + rows["unchecked"].map(lambda text: f" (unchecked: {text})" if text else "")
    columns = {
        "task": rows["task"],
        "variant": rows["variant"],
        "published by": rows["study"],
        "setting there": rows["setting"],
        "metric there": rows["metric"],
        "published": rows["mean"].map(number),
        "± there": rows["std"].map(number),
        "n there": rows["n"].map(whole),
        "metric here": rows["compare_with"],
        "setting here": here,
        "ours": rows["ours"].map(number),
        "low": rows["low"].map(number),
        "high": rows["high"].map(number),
        "n": rows["n_ours"].map(whole),
        "deviation": rows["deviation"].map(lambda value: signed(value, 1)),
        "origin": rows["origin"],
        "status": rows["status"],
    }
    printed = (
        "task",
        "variant",
        "published by",
        "setting there",
        "metric there",
        "published",
        "± there",
        "ours",
        "low",
    )
    return Table("published", CAPTION, pd.DataFrame(columns), printed=(*printed, "high", "n", "deviation", "status"))
