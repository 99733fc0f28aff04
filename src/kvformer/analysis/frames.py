"""`runs.csv`, `curves.csv.gz` and `correct.csv.gz` as typed frames, and the part of them that comparisons use."""

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from kvformer.analysis.collect import CORRECT_COLUMNS, CURVE_COLUMNS, RUN_COLUMNS, find, run_table
from kvformer.analysis.study import Study
from kvformer.errors import KvformerError

CELL = ["task", "setting", "variant"]
KEYS = [*CELL, "seed"]
NUMBERS = ["value", "parameters", "attention_parameters", "steps", "selected_step", "seconds", "stepping_seconds"]
NUMBERS += ["samples_per_second"]
AS_TEXT: dict[str, Any] = {"dtype": str, "keep_default_na": False}
"""How runs.csv is read."""
COLLECT = "no such file; `kvformer collect` makes it from the run folders"


def packed_name(name: str) -> str:
    """What a table such as runs.csv is called in a compact copy."""
    return f"{name.removesuffix('.gz')}.xz"


def table_file(results: Path, name: str) -> Path:
    """The file of the table `name`: as it was collected, or packed where `results` is a compact copy."""
    plain, packed = results / name, results / packed_name(name)
    return packed if packed.exists() and not plain.exists() else plain


def read_table(path: Path, columns: Collection[str], missing: str = "no such file", **options: Any) -> pd.DataFrame:
    """Read a CSV file.

    columns: those that it must have. missing: what to say where there is no such file. options: of pandas.read_csv.

    Raises:
        KvformerError: the file is missing, is not readable as CSV, or a column is missing.
    """
    try:
        table: pd.DataFrame = pd.read_csv(path, **options)
    except FileNotFoundError:
        raise KvformerError(f"{path}: {missing}") from None
    except (OSError, EOFError, ValueError) as error:
        raise KvformerError(f"{path}: not readable as CSV ({error})") from None
    if absent := [column for column in columns if column not in table]:
        raise KvformerError(f"{path}: has no column {', '.join(absent)}")
    return table


def to_numbers(table: pd.DataFrame, columns: Collection[str], path: Path) -> None:
    """Make `columns` of a table that was read from `path` numbers, in place; an empty text is NaN.

    Raises:
        KvformerError: a column holds something else.
    """
    for column in columns:
        try:
            table[column] = table[column].replace("", "nan").astype(float)
        except ValueError as error:
            raise KvformerError(f"{path}: column {column} must hold numbers ({error})") from None


def load_runs(results: Path) -> pd.DataFrame:
    """Read `results/runs.csv`: names stay text whatever they look like, numbers are float (NaN where empty).

    Raises:
        KvformerError: the file is missing, or is not a table with the columns of docs/architecture.md.
    """
    path = table_file(results, "runs.csv")
    return _run_frame(read_table(path, RUN_COLUMNS, COLLECT, **AS_TEXT), path)


def current_scores(results: Path, study: Study) -> pd.DataFrame:
    """The `scores` of the run folders in `results` as they are now, whether or not they have been collected."""
    table = pd.read_csv(io.StringIO(run_table(study, find(results, study))), **AS_TEXT)
    return scores(_run_frame(table, results / "runs.csv"))


def _run_frame(runs: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The content of `path`, a runs.csv that was read as text, with its numbers as numbers. Raises KvformerError."""
    to_numbers(runs, ["seed", *NUMBERS], path)
    if runs["seed"].isna().any():
        raise KvformerError(f"{path}: a row has no seed")
    runs["seed"] = runs["seed"].astype(int)
    runs["primary"] = runs["primary"] == "True"
    return runs


def load_curves(results: Path) -> pd.DataFrame:
    """Read `results/curves.csv.gz`.

    Raises:
        KvformerError: the file is missing or damaged, or has not the columns of docs/architecture.md.
    """
    names = dict.fromkeys(("task", "setting", "variant", "metric"), str)
    return read_table(table_file(results, "curves.csv.gz"), CURVE_COLUMNS, COLLECT, dtype=names)


def load_correct(results: Path) -> pd.DataFrame:
    """Read `results/correct.csv.gz`: a row per run whose answers are known. Empty where there is no such file, as in
    studies of 1.0.

    Raises:
        KvformerError: the file is damaged, or has not the columns of docs/architecture.md.
    """
    path = table_file(results, "correct.csv.gz")
    if not path.is_file():
        return pd.DataFrame(columns=CORRECT_COLUMNS)
    return read_table(path, CORRECT_COLUMNS, COLLECT, dtype=str)


def scores(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of the primary metric: one for every expected run, whatever became of it."""
    return runs[runs["primary"]].reset_index(drop=True)


def usable(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of finished runs with a finite value: those that enter means and differences."""
    finite = frame["value"].abs() < float("inf")
    return frame[(frame["status"] == "finished") & finite]


def lost(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that `usable` leaves out."""
    return frame.drop(usable(frame).index)


def by_setting(frame: pd.DataFrame, column: str = "value") -> dict[str, pd.Series]:
    """A column by seed, for each setting of one task and variant, in the order of the frame."""
    groups = frame.set_index("seed")[column].groupby(frame["setting"].to_numpy(), sort=False)
    return {str(name): group for name, group in groups}


def paired_by_setting(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, pd.Series]:
    """Differences (ours minus theirs) by seed, for each setting with a pair. Each side has one task and variant."""
    reference = by_setting(theirs)
    pairs = {
        name: (values - reference[name]).dropna() for name, values in by_setting(ours).items() if name in reference
    }
    return {name: values for name, values in pairs.items() if len(values)}


def hours_of(rows: pd.DataFrame) -> float:
    """Core-hours of comparisons together, from rows of `planning` with one number of seeds: the baseline of a task is
    trained once."""
    baseline = rows.groupby("task")["baseline_hours"].max().sum()
    return float((rows["hours"] - rows["baseline_hours"]).sum() + baseline)
