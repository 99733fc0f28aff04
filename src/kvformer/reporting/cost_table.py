"""What the runs cost: parameters, time, throughput, and the counts of `profile.csv` where the profile was taken."""

from pathlib import Path

import pandas as pd

from kvformer.analysis.frames import scores
from kvformer.analysis.study import Study
from kvformer.errors import KvformerError
from kvformer.reporting.render import Table, number, whole

CELL = ["task", "setting", "variant"]
CAPTION = (
    "Cost of a run: medians over seeds. Stepping: seconds in optimisation steps only. Ratio: samples/s over that of "
    "{baseline} at the same seed. Runs that shared a machine with others are no benchmark."
)
PROFILED = (
    " The profile takes all variants of a setting in turns: medians with quartiles (low, high) of the seconds of a "
    "training step and of the tokens decoded a second; step ratio: over that of the baseline in the same turn."
)


def efficiency_table(runs: pd.DataFrame, study: Study, profile: Path) -> Table:
    """Medians per (task, setting, variant), and the columns of `profile` (keyed by some of these) beside them.

    Raises:
        KvformerError: `profile` exists but is not what `load_profile` reads.
    """
    done = scores(runs)
    done = done[done["status"] == "finished"]
    pair = ["task", "setting", "seed"]
    baseline = done.loc[done["variant"] == study.baseline, [*pair, "samples_per_second"]]
    done = done.merge(baseline, how="left", on=pair, suffixes=("", "_baseline"))
    done["ratio"] = done["samples_per_second"] / done["samples_per_second_baseline"]
    cells = done.groupby(CELL, sort=False)
    medians = cells[["seconds", "stepping_seconds", "samples_per_second", "ratio"]].median()
    columns = {
        "n": cells.size().map(whole),
        "parameters": cells["parameters"].max().map(whole),
        "attention parameters": cells["attention_parameters"].max().map(whole),
        "seconds": medians["seconds"].map(lambda value: number(value, 1)),
        "stepping": medians["stepping_seconds"].map(lambda value: number(value, 1)),
        "samples/s": medians["samples_per_second"].map(whole),
        "ratio": medians["ratio"].map(lambda value: number(value, 3)),
    }
    table = pd.DataFrame(columns).reset_index()
    if profile.exists():
        costs = load_profile(profile)
        keys = profile_keys(costs)
        table = table.merge(_in_print(costs, keys), how="left", on=keys).fillna("")
    caption = CAPTION + PROFILED if "step ratio" in table else CAPTION
    return Table("efficiency", caption.format(baseline=study.baseline), table)


def load_profile(path: Path) -> pd.DataFrame:
    """Read `profile.csv`, keyed by some of task, setting and variant.

    Raises:
        KvformerError: it is not readable as CSV, has none of these columns, or two rows of one key.
    """
    try:
        profile = pd.read_csv(path, dtype=dict.fromkeys(CELL, str))
    except (OSError, ValueError) as error:
        raise KvformerError(f"{path}: not readable as CSV ({error}); `kvformer profile` writes it anew") from None
    keys = profile_keys(profile)
    if not keys:
        raise KvformerError(f"{path}: has none of the columns {', '.join(CELL)}")
    if profile.duplicated(keys).any():
        raise KvformerError(f"{path}: two rows for the same {', '.join(keys)}")
    return profile


def profile_keys(profile: pd.DataFrame) -> list[str]:
    """Those of task, setting and variant that a profile is keyed by."""
    return [column for column in profile.columns if column in CELL]


def _in_print(profile: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    numbers = profile.drop(columns=keys)
    numbers = numbers[[column for column in numbers if column not in ("parameters", "attention_parameters")]]
    texts = numbers.map(lambda value: value if isinstance(value, str) else _measure(value))
    return pd.concat([profile[keys], texts.rename(columns=lambda name: name.replace("_", " "))], axis=1)


def _measure(value: float) -> str:
    """Three significant digits, and all digits of whole numbers and of those from 100 on."""
    return whole(value) if pd.isna(value) or float(value).is_integer() or value >= 100 else f"{value:.3g}"
