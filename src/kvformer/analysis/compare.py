"""Two result folders, or two settings of them, side by side: the numbers of `kvformer compare`."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kvformer.analysis.comparisons import Comparison, is_solvable
from kvformer.analysis.decisions import judge
from kvformer.analysis.frames import KEYS, by_setting, load_runs, scores, usable
from kvformer.analysis.statistics import by_seed
from kvformer.analysis.study import ALL_SETTINGS, Study, read_study
from kvformer.errors import KvformerError


@dataclass(frozen=True)
class SideBySide:
    """Two sides whose runs were paired.

    names: of the sides. study: of the first one. rows: per (task, variant) the difference (second minus first) and the
    verdict on the second side, with the columns of `decisions.judge`, the means of both sides (value_a, value_b) and
    `same` (runs with one configuration hash). unmatched: runs that did not finish on both sides, and their status.
    """

    names: tuple[str, str]
    study: Study
    rows: pd.DataFrame
    unmatched: pd.DataFrame


def compare(a: Path, b: Path) -> SideBySide:
    """Compare the runs of results folder `b` with those of `a`, pair by pair.

    `folder:setting` takes the runs of one setting. It is paired with the only setting that the other side has.

    Raises:
        KvformerError: a folder is not a collected study, has no such setting, has several where one is needed, the two
            have no run in common, or judge a task differently.
    """
    (folder_a, setting_a), (folder_b, setting_b) = _side(a), _side(b)
    studies = [read_study(folder_a), read_study(folder_b)]
    frames = [_select(folder_a, setting_a), _select(folder_b, setting_b)]
    if setting_a or setting_b:
        _require_one_setting(a, frames[0], frames[1])
        _require_one_setting(b, frames[1], frames[0])
        for frame in frames:
            frame["setting"] = f"{setting_a or 'any'} → {setting_b or 'any'}"
    pairs = frames[0].merge(frames[1], on=KEYS, suffixes=("_a", "_b"))
    if pairs.empty:
        raise KvformerError(f"{a} and {b} have no run (task, setting, variant, seed) in common")
    for row in pairs.drop_duplicates("task").to_dict("records"):
        ours, theirs = ((row[f"metric_{side}"], row[f"goal_{side}"]) for side in "ab")
        if ours != theirs:
            raise KvformerError(f"task {row['task']} is judged by {ours[0]} in {a} and by {theirs[0]} in {b}")
    named = studies[0].name != studies[1].name
    names = (studies[0].name, studies[1].name) if named else (a.as_posix(), b.as_posix())
    return SideBySide(names, studies[0], _differences(frames, studies[0]), _unmatched(frames))


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


def _require_one_setting(folder: Path, frame: pd.DataFrame, other: pd.DataFrame) -> None:
    """Two settings of one seed would count as two pairs."""
    for task, settings in frame[frame["task"].isin(other["task"])].groupby("task")["setting"]:
        if settings.nunique() > 1:
            known = ", ".join(f"{folder}:{setting}" for setting in settings.unique())
            raise KvformerError(f"{folder} has several settings of task {task}, name one: {known}")


def _differences(frames: list[pd.DataFrame], study: Study) -> pd.DataFrame:
    pairs = usable(frames[0]).merge(usable(frames[1]), on=KEYS, suffixes=("_a", "_b"))
    pairs["difference"] = pairs["value_b"] - pairs["value_a"]
    pairs["same"] = pairs["config_hash_a"] == pairs["config_hash_b"]
    runs = pd.concat(frames, ignore_index=True)
    compared, rows = [], []
    for task in study.tasks:
        for variant in study.variants:
            mine = pairs[(pairs["task"] == task) & (pairs["variant"] == variant)]
            if mine.empty:
                continue
            groups = list(by_setting(mine, "difference").values())
            metric = mine["metric_a"].iloc[0]
            setting = mine["setting"].iloc[0] if len(groups) == 1 else ALL_SETTINGS
            names = {"task": task, "setting": setting, "variant": variant, "metric": metric}
            names["goal"] = mine["goal_a"].iloc[0]
            own = runs[(runs["task"] == task) & (runs["variant"] == variant)]
            solvable = is_solvable(study.tasks[task].family, metric)
            compared.append(Comparison(names, study.margin(metric), by_seed(groups), own, solvable))
            means = {side: mine.groupby("setting")[side].mean().mean() for side in ("value_a", "value_b")}
            rows.append({**means, "same": int(mine["same"].sum())})
    if not rows:
        raise KvformerError("no run finished in both folders")
    return pd.concat([judge(compared), pd.DataFrame(rows)], axis=1)


def _unmatched(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Runs that finished in one folder only, or in neither, with status_a and status_b."""
    merged = frames[0].merge(frames[1], on=KEYS, how="outer", suffixes=("_a", "_b"), sort=False)
    status = merged[["status_a", "status_b"]].fillna("not in the study")
    good = usable(frames[0]).merge(usable(frames[1]), on=KEYS)[KEYS].assign(good=True)
    lone = merged[KEYS].merge(good, on=KEYS, how="left")["good"].isna()
    return pd.concat([merged[KEYS].astype(str), status], axis=1)[lone.to_numpy()].reset_index(drop=True)
