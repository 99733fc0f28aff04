"""Before any job starts: which data sets cannot be had, and what that means for the study."""

from pathlib import Path
from typing import Any

from kvformer.config.loading import load_study
from kvformer.config.study import StudyConfig
from kvformer.data.datasets import available
from kvformer.errors import DataError
from kvformer.files import read_json
from kvformer.tasks import TASKS


def leave_out_missing(
    raw: dict[str, Any], prepared: Path, user_folder: Path
) -> tuple[dict[str, Any], StudyConfig, list[dict[str, str]]]:
    """The study without the tasks whose data cannot be had, as `on_missing` says.

    raw: the configuration as read. prepared: folder of prepared data sets. Returns the reduced raw configuration, the
    study, and what was left out, `{"task", "reason"}` each. Raises DataError, naming the sets and where to put them,
    where the study is to fail; ConfigError for a faulty configuration.
    """
    study = load_study(raw)
    reasons = {name: available(name, prepared / name, user_folder) for name in study.datasets()}
    missing = {name: reason for name, reason in reasons.items() if reason is not None}
    if not missing:
        return raw, study, []
    skipped = [
        {"task": task, "reason": missing[name]}
        for task, settings in study.settings.items()
        for name in dict.fromkeys(name for setting in settings for name in TASKS[task].datasets(setting.data))
        if name in missing
    ]
    if study.on_missing == "fail":
        tasks = ", ".join(dict.fromkeys(entry["task"] for entry in skipped))
        raise DataError(f"data are missing: {'; '.join(missing.values())}. `on_missing: skip` would leave out {tasks}")
    return _without(raw, skipped)


def without_skipped(raw: dict[str, Any], manifest: Path) -> tuple[dict[str, Any], StudyConfig, list[dict[str, str]]]:
    """The same for a job of a study: what planning left out is written in its `study.json`, once that is there."""
    try:
        skipped = read_json(manifest).get("skipped", [])
    except (OSError, ValueError):
        skipped = []
    return _without(raw, [entry for entry in skipped if entry["task"] in raw.get("tasks", {})])


def _without(
    raw: dict[str, Any], skipped: list[dict[str, str]]
) -> tuple[dict[str, Any], StudyConfig, list[dict[str, str]]]:
    if skipped:
        raw = {**raw, "tasks": {**raw["tasks"], **{entry["task"]: None for entry in skipped}}}
    return raw, load_study(raw), skipped
