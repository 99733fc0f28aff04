"""Which tasks of a study are left out, because their data are not available."""

from pathlib import Path
from typing import Any

from kvformer.config.loading import load_study
from kvformer.config.study import StudyConfig
from kvformer.data.datasets import available, find_dataset
from kvformer.errors import DataError
from kvformer.records.manifest import load_manifest
from kvformer.records.study import SkippedTask, StudyStart


def leave_out_missing(
    raw: dict[str, Any], folders: tuple[Path, Path] | None = None
) -> tuple[StudyConfig, list[SkippedTask]]:
    """The study without the tasks whose data are not available, as `on_missing` says, and what was left out.

    folders: of prepared data and of the user's own files; default: those of the study.

    Raises DataError, naming the sets and where to put them, where the study is to fail; ConfigError for a faulty
    configuration.
    """
    study = load_study(raw)
    prepared, user_folder = folders or (study.execution.prepared, Path(study.execution.data_folder))
    reasons = {name: available(name, prepared / name, user_folder) for name in study.datasets()}
    missing = {name: reason for name, reason in reasons.items() if reason is not None}
    skipped = [
        SkippedTask(task=task, reason=missing[name])
        for task in study.settings
        for name in study.datasets_of(task)
        if name in missing
    ]
    tasks = list(dict.fromkeys(entry.task for entry in skipped))
    if tasks and (study.on_missing == "fail" or len(tasks) == len(study.settings)):
        left_out = "all tasks" if len(tasks) == len(study.settings) else ", ".join(tasks)
        raise DataError(f"data are missing: {'; '.join(missing.values())}. `on_missing: skip` leaves out {left_out}")
    return _without(raw, study, skipped)


def preparations(study: StudyConfig) -> tuple[list[str], list[str]]:
    """The data sets that are prepared again because the user's files have changed; and what to tell the user about
    these and the other sets that are still to be prepared, in lines."""
    user_folder = Path(study.execution.data_folder)
    changed, lines = [], []
    for name in study.datasets():
        dataset = find_dataset(name)
        try:
            reason = dataset.outdated(load_manifest(study.execution.prepared / name), user_folder)
            if reason is None:
                continue
            changed.append(name)
            lines.append(f"{name}: {reason}: it is prepared again, and its runs are trained again")
        except DataError:
            pass  # not prepared yet
        lines += dataset.remarks(user_folder)
    return changed, lines


def without_skipped(raw: dict[str, Any], start: StudyStart | None) -> tuple[StudyConfig, list[SkippedTask]]:
    """The same for a job of the study, which does not look for data.

    start: the record of the study's start, which says what planning left out; None leaves out nothing.

    Raises ConfigError for a faulty configuration.
    """
    study = load_study(raw)
    return _without(raw, study, [entry for entry in (start.skipped if start else []) if entry.task in study.settings])


def _without(
    raw: dict[str, Any], study: StudyConfig, skipped: list[SkippedTask]
) -> tuple[StudyConfig, list[SkippedTask]]:
    if skipped:
        left_out = {entry.task: None for entry in skipped}
        scaling = None if study.scaling in left_out else study.scaling
        study = load_study({**raw, "tasks": {**raw["tasks"], **left_out}, "scaling": scaling})
    return study, skipped
