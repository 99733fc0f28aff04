"""Two result folders, or two settings of them, side by side: what a user looks at after changing something."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kvformer.analysis.comparisons import describe_differences, judge
from kvformer.analysis.frames import KEYS, by_setting, load_runs, scores, usable
from kvformer.analysis.study import ALL_SETTINGS, Study, read_study
from kvformer.errors import KvformerError
from kvformer.reporting.render import Table, difference_columns, number, probability, whole
from kvformer.reporting.sentences import place, sentence

CAPTION = (
    "{b} minus {a} at equal task, setting, variant and seed, with the 95 % interval of the mean. A pair is a "
    "seed: over a grid, its mean over the settings. p: paired t test and Wilcoxon's signed-rank test, each "
    "Holm-adjusted over this table. Verdict on {b}: equivalent inside ± margin, else better or worse where the "
    "adjusted t test has p < 0.05, else undecided. Same configuration: runs with one configuration hash on both "
    "sides, so that only code, machine or data can make a difference."
)


@dataclass(frozen=True)
class Comparison:
    """The outcome of `compare`: findings in words, and the files written."""

    sentences: list[str]
    paths: list[Path]


def compare(a: Path, b: Path, out: Path) -> Comparison:
    """Compare the runs of results folder `b` with those of `a`, pair by pair; tables go to the folder `out`.

    `folder:setting` takes the runs of one setting; a setting is paired with whatever the other side has.

    Writes `compare` (differences with verdicts) and, where runs have no partner, `compare_unmatched`, each as CSV,
    Markdown and LaTeX.

    Raises:
        KvformerError: a folder is no collected study, lacks the setting, the two have no run in common, or judge a
            task differently.
    """
    (folder_a, setting_a), (folder_b, setting_b) = _side(a), _side(b)
    studies = [read_study(folder_a), read_study(folder_b)]
    names = _names(a, b, studies)
    frames = [_select(folder_a, setting_a), _select(folder_b, setting_b)]
    if setting_a or setting_b:
        for frame in frames:
            frame["setting"] = f"{setting_a or 'any'} → {setting_b or 'any'}"
    pairs = frames[0].merge(frames[1], on=KEYS, suffixes=("_a", "_b"))
    if pairs.empty:
        raise KvformerError(f"{a} and {b} have no run (task, setting, variant, seed) in common")
    for row in pairs.drop_duplicates("task").to_dict("records"):
        ours, theirs = ((row[f"metric_{side}"], row[f"goal_{side}"]) for side in "ab")
        if ours != theirs:
            raise KvformerError(f"task {row['task']} is judged by {ours[0]} in {a} and by {theirs[0]} in {b}")
    rows = _differences(frames, studies)
    tables = [Table("compare", CAPTION.format(a=names[0], b=names[1]), _print(rows))]
    unmatched = _unmatched(frames, names)
    for stale in out.glob("compare_unmatched.*"):
        stale.unlink()
    if len(unmatched):
        tables.append(Table("compare_unmatched", "Runs without a partner that finished.", unmatched))
    sentences = [
        sentence(row, f"{place(row, studies[0])} with {row['variant']}", names[1], names[0])
        for row in rows.to_dict("records")
    ]
    if len(unmatched):
        sentences.append(f"{len(unmatched)} runs have no partner that finished; see compare_unmatched.")
    return Comparison(sentences, [path for table in tables for path in table.write(out)])


def _side(path: Path) -> tuple[Path, str]:
    """The folder and the setting ("" for all) of `folder` or `folder:setting`."""
    folder, colon, setting = path.as_posix().rpartition(":")
    return (path, "") if path.is_dir() or not colon else (Path(folder), setting)


def _select(folder: Path, setting: str) -> pd.DataFrame:
    frame = scores(load_runs(folder))
    if not setting:
        return frame
    chosen = frame[frame["setting"] == setting].reset_index(drop=True)
    if chosen.empty:
        known = ", ".join(sorted(frame["setting"].unique()))
        raise KvformerError(f"{folder} has no run of setting '{setting}'; its settings are {known}")
    return chosen


def _names(a: Path, b: Path, studies: list[Study]) -> list[str]:
    names = [study.name for study in studies]
    return names if names[0] != names[1] else [a.as_posix(), b.as_posix()]


def _differences(frames: list[pd.DataFrame], studies: list[Study]) -> pd.DataFrame:
    """One row per (task, variant), over all common settings and seeds."""
    pairs = usable(frames[0]).merge(usable(frames[1]), on=KEYS, suffixes=("_a", "_b"))
    pairs["difference"] = pairs["value_b"] - pairs["value_a"]
    pairs["same"] = pairs["config_hash_a"] == pairs["config_hash_b"]
    rows: list[dict[str, Any]] = []
    for task in studies[0].tasks:
        for variant in studies[0].variants:
            mine = pairs[(pairs["task"] == task) & (pairs["variant"] == variant)]
            if mine.empty:
                continue
            groups = list(by_setting(mine, "difference").values())
            metric, goal = mine["metric_a"].iloc[0], mine["goal_a"].iloc[0]
            rows.append(
                {"task": task, "setting": mine["setting"].iloc[0] if len(groups) == 1 else ALL_SETTINGS}
                | {"variant": variant, "metric": metric, "goal": goal, "margin": studies[0].margin(metric)}
                | {side: mine.groupby("setting")[side].mean().mean() for side in ("value_a", "value_b")}
                | {"same": int(mine["same"].sum())}
                | describe_differences(groups, metric, goal)
            )
    if not rows:
        raise KvformerError("no run finished in both folders")
    return judge(pd.DataFrame(rows))


def _unmatched(frames: list[pd.DataFrame], names: list[str]) -> pd.DataFrame:
    """Runs that finished in one folder only, or in neither."""
    merged = frames[0].merge(frames[1], on=KEYS, how="outer", suffixes=("_a", "_b"), sort=False)
    status = merged[["status_a", "status_b"]].fillna("not in the study")
    good = usable(frames[0]).merge(usable(frames[1]), on=KEYS)[KEYS].assign(good=True)
    lone = merged[KEYS].merge(good, on=KEYS, how="left")["good"].isna()
    table = pd.concat([merged[KEYS].astype(str), status], axis=1)[lone.to_numpy()]
    return table.rename(columns={"status_a": f"in {names[0]}", "status_b": f"in {names[1]}"}).reset_index(drop=True)


def _print(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "task": rows["task"],
            "setting": rows["setting"],
            "variant": rows["variant"],
            "metric": rows["metric"],
            "pairs": rows["n"].map(whole),
            "same configuration": rows["same"].map(whole),
            "mean before": rows["value_a"].map(number),
            "mean after": rows["value_b"].map(number),
            **difference_columns(rows),
            "t test Holm": rows["p_t_holm"].map(probability),
            "Wilcoxon Holm": rows["p_wilcoxon_holm"].map(probability),
            "smallest p": rows["smallest_p"].map(probability),
            "verdict": rows["verdict"],
        }
    )
