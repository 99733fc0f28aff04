"""`runs.csv` as a typed frame, and the part of it that comparisons use."""

from pathlib import Path

import pandas as pd

from kvformer.analysis.collect import CURVE_COLUMNS, RUN_COLUMNS
from kvformer.errors import KvformerError

KEYS = ["task", "setting", "variant", "seed"]
NUMBERS = ["value", "parameters", "attention_parameters", "steps", "selected_step", "seconds", "stepping_seconds"]
NUMBERS += ["samples_per_second"]


def load_runs(results: Path) -> pd.DataFrame:
    """Read `results/runs.csv`: names stay text whatever they look like, numbers are float (NaN where empty).

    Raises:
        KvformerError: the file is absent, or is not a table with the columns of docs/architecture.md.
    """
    path = results / "runs.csv"
    try:
        runs = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise KvformerError(f"{path}: no such file; `kvformer collect` makes it from the run folders") from None
    except (OSError, ValueError) as error:
        raise KvformerError(f"{path}: not readable as CSV ({error})") from None
    lacking = [column for column in RUN_COLUMNS if column not in runs.columns]
    if lacking:
        raise KvformerError(f"{path}: lacks the columns {', '.join(lacking)}")
    for column in NUMBERS:
        try:
            runs[column] = runs[column].replace("", "nan").astype(float)
        except ValueError as error:
            raise KvformerError(f"{path}: column {column} must hold numbers ({error})") from None
    runs["seed"] = runs["seed"].astype(int)
    runs["primary"] = runs["primary"] == "True"
    return runs


def load_curves(results: Path) -> pd.DataFrame:
    """Read `results/curves.csv.gz`.

    Raises:
        KvformerError: the file is absent or damaged, or lacks a column of docs/architecture.md.
    """
    path = results / "curves.csv.gz"
    try:
        curves = pd.read_csv(path, dtype=dict.fromkeys(("task", "setting", "variant", "metric"), str), na_filter=True)
    except FileNotFoundError:
        raise KvformerError(f"{path}: no such file; `kvformer collect` makes it from the run folders") from None
    except (OSError, EOFError, ValueError) as error:
        raise KvformerError(f"{path}: not readable as CSV ({error})") from None
    if lacking := [column for column in CURVE_COLUMNS if column not in curves.columns]:
        raise KvformerError(f"{path}: lacks the columns {', '.join(lacking)}")
    return curves


def scores(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of the primary metric: one for every expected run, whatever became of it."""
    return runs[runs["primary"]].reset_index(drop=True)


def usable(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of finished runs with a finite value: those that enter means and differences."""
    finite = frame["value"].abs() < float("inf")
    return frame[(frame["status"] == "finished") & finite]


def by_setting(frame: pd.DataFrame, column: str = "value") -> dict[str, pd.Series]:
    """A column by seed, for each setting of one task and variant, in the order of the frame."""
    return {str(name): group.set_index("seed")[column] for name, group in frame.groupby("setting", sort=False)}
