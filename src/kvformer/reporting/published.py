"""Published numbers beside ours, with the deviation in units of our interval."""

from pathlib import Path

import pandas as pd

from kvformer.errors import KvformerError
from kvformer.reporting import statistics
from kvformer.reporting.frames import usable
from kvformer.reporting.nuisance import values_text
from kvformer.reporting.render import Table, number, signed, whole
from kvformer.reporting.study import Study

COLUMNS = [
    *("study", "family", "task", "setting", "variant", "metric", "mean", "std", "n", "origin", "status"),
    *("compare_with", "conditions"),
]
CAPTION = (
    "Published numbers beside ours. Deviation: ours minus published, in half-widths of our 95 % interval; beyond ±1 "
    "the published number lies outside it. Sizes, steps and data may differ from the published ones: setting there "
    "and setting here say what is compared; unchecked names conditions that this study's grid does not show. Origin "
    "and status say where each published number was found and how sure it is."
)


def load_published(path: Path) -> pd.DataFrame:
    """Read the table of published numbers (config/published.csv).

    `compare_with` is the metric of ours that measures the same thing (empty: none does). `conditions` are grid values
    (`model.dim=64 model.heads=1`) of the published setting, empty for a mean over a grid or a setting without a name.

    Raises:
        KvformerError: columns are lacking or a mean is no number.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    lacking = [column for column in COLUMNS if column not in table.columns]
    if lacking:
        raise KvformerError(f"{path}: lacks the columns {', '.join(lacking)}")
    for column in ("mean", "std", "n"):
        try:
            table[column] = table[column].replace("", "nan").astype(float)
        except ValueError as error:
            raise KvformerError(f"{path}: column {column} must hold numbers ({error})") from None
    return table


def compare_published(runs: pd.DataFrame, study: Study, published: pd.DataFrame) -> pd.DataFrame:
    """The published rows that this study can be held against.

    Columns: those of the published table, then ours, low, high, n_ours, settings (ours that take part), unchecked
    (conditions that our grid does not show), deviation.
    """
    done = usable(runs)
    rows = []
    for row in published[published["compare_with"] != ""].to_dict("records"):
        mine = done[
            (done["task"] == row["task"])
            & (done["variant"] == row["variant"])
            & (done["metric"] == row["compare_with"])
        ]
        conditions = dict(part.split("=", 1) for part in str(row["conditions"]).split())
        settings = [
            setting
            for setting in dict.fromkeys(mine["setting"])
            if all(
                _same(study.overrides[row["task"], setting].get(key, value), value) for key, value in conditions.items()
            )
        ]
        if not settings:
            continue
        shown = {key for setting in settings for key in study.overrides[row["task"], setting]}
        unchecked = {key: value for key, value in conditions.items() if key not in shown}
        found = statistics.estimate([mine.loc[mine["setting"] == setting, "value"] for setting in settings])
        half = (found.high - found.low) / 2
        rows.append(
            {str(key): value for key, value in row.items()}
            | {"ours": found.mean, "low": found.low, "high": found.high, "n_ours": found.n}
            | {"settings": ", ".join(settings) if len(settings) <= 3 else f"{len(settings)} settings"}
            | {"unchecked": values_text(unchecked)}
            | {"deviation": (found.mean - float(row["mean"])) / half if half > 0 else float("nan")}
        )
    return pd.DataFrame(rows)


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
        "sd there": rows["std"].map(number),
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
    return Table("published", CAPTION, pd.DataFrame(columns))
