"""From files and command lines to a validated study: YAML, `--set key=value`, and one-line errors."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kvformer.config import SECTIONS, RunConfig, StudyConfig, describe_errors
from kvformer.errors import ConfigError
from kvformer.tasks import TASKS
from kvformer.variants import VARIANTS


def load_study(source: Path | dict[str, Any], overrides: Iterable[str] = (), task: str | None = None) -> StudyConfig:
    """Validate a study from a YAML file or a mapping, changed by `key=value` overrides.

    With `task`, keys that begin with data, model or training belong to that task.
    Raises ConfigError with one line that names the file, the key, what it holds and what is allowed.
    """
    where = str(source) if isinstance(source, Path) else "configuration"
    raw = _read_yaml(source) if isinstance(source, Path) else dict(source)
    for override in overrides:
        _apply(raw, override, task)
    try:
        study = StudyConfig.model_validate(raw)
        study.runs()
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe_errors(error, StudyConfig)}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return study


def single_run(
    task: str,
    variant: str,
    seed: int,
    base: Path | None = None,
    overrides: Iterable[str] = (),
    setting: str | None = None,
) -> tuple[RunConfig, StudyConfig]:
    """The run of one task, variant and seed; from the published settings, or from a study's file.

    Raises ConfigError for unknown names, and where the study has several settings of the task and none is chosen.
    """
    for kind, name, known in (("task", task, TASKS), ("variant", variant, VARIANTS)):
        if name not in known:
            raise ConfigError(f"there is no {kind} '{name}'; allowed: {', '.join(known)}")
    raw = _read_yaml(base) if base else {}
    section = (raw.get("tasks") or {}).get(task) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{base}: tasks.{task}: must be a mapping, not {section!r}")
    section = {**section, "variants": [variant], "seeds": [seed]}
    study = load_study({**raw, "tasks": {task: section}, "baseline": raw.get("baseline", "qkv")}, overrides, task)
    runs = {run.setting: run for run in study.runs()}
    if setting is None and len(runs) > 1:
        raise ConfigError(f"tasks.{task} has {len(runs)} settings, choose one with --setting: {', '.join(runs)}")
    if setting is not None and setting not in runs:
        raise ConfigError(f"--setting: there is no setting '{setting}' of {task}; allowed: {', '.join(runs)}")
    return runs[setting or next(iter(runs))], study


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a mapping of keys, not {type(content).__name__}")
    return content


def _apply(raw: dict[str, Any], override: str, task: str | None) -> None:
    """Set a dotted key in place; a grid or named setting that varies the same key gives way."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes key=value, not '{override}'")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}: '{text}' is not a YAML value") from None
    if isinstance(value, str):
        value = _number(value)
    parts = key.split(".")
    if task and parts[0] in SECTIONS:
        section = raw["tasks"][task]
        section["grid"] = {k: v for k, v in (section.get("grid") or {}).items() if k != key}
        section["nuisance"] = [k for k in section.get("nuisance") or [] if k != key]
        parts = ["tasks", task, *parts]
    target = raw
    for part in parts[:-1]:
        inner = target.get(part)
        target[part] = dict(inner) if isinstance(inner, dict) else {}
        target = target[part]
    target[parts[-1]] = value


def _number(text: str) -> Any:
    """YAML 1.1 reads 1e-3 as text; people mean the number."""
    try:
        return float(text)
    except ValueError:
        return text
