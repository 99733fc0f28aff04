"""From files and command lines to a validated study: YAML, `--set key=value`, and one-line errors."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kvformer.config.grid import DURATIONS, SECTIONS
from kvformer.config.messages import describe_errors, unknown
from kvformer.config.run import RunConfig
from kvformer.config.scaling import check_scaling
from kvformer.config.study import StudyConfig
from kvformer.config.tuning import tuning_runs
from kvformer.data.datasets import find_dataset
from kvformer.errors import ConfigError, DataError
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS

EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
"""Numbers that YAML 1.1 reads as text, such as 1e-3."""


def load_study(source: Path | dict[str, Any], overrides: Iterable[str] = ()) -> StudyConfig:
    """Validate a study from a YAML file or a mapping, changed by `key=value` overrides.

    Raises ConfigError with one line that names the file, the key, what it holds and what is allowed.
    """
    if isinstance(source, Path):
        return _validate(read_yaml(source), str(source), overrides)
    return _validate(_numbers(source), "configuration", overrides)


def _validate(raw: dict[str, Any], where: str, overrides: Iterable[str], task: str | None = None) -> StudyConfig:
    """The study in `raw`, which was read from `where` and which overrides change in place. With `task`, those of data,
    model and training belong to that task."""
    for override in overrides:
        _apply(raw, override, task)
    try:
        study = StudyConfig.model_validate(raw)
        if not study.sections():
            raise ConfigError(f"tasks: list at least one task; allowed: {', '.join(TASKS)}")
        _check_datasets(study)
        study.runs()
        tuning_runs(study)
        check_scaling(study)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe_errors(error, StudyConfig)}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return study


def _check_datasets(study: StudyConfig) -> None:
    """Raise ConfigError where a task asks for an unknown data set."""
    for task in study.settings:
        for name in study.datasets_of(task):
            try:
                find_dataset(name)
            except DataError as error:
                raise ConfigError(f"tasks.{task}.data.dataset: {error}") from None


def single_run(
    task: str,
    variant: str,
    seed: int,
    base: Path | None = None,
    overrides: Iterable[str] = (),
    setting: str | None = None,
) -> tuple[RunConfig, StudyConfig]:
    """The run of one task, variant and seed; from the published settings, or from a study's file.

    Raises ConfigError for unknown names, where the study has several settings of the task and none is chosen, and where
    an override leaves the run out.
    """
    for kind, name, known in (("task", task, TASKS), ("variant", variant, VARIANTS)):
        if name not in known:
            raise ConfigError(unknown(kind, name, known))
    raw = read_yaml(base) if base else {}
    tasks = raw.get("tasks") or {}
    section = tasks.get(task) or {} if isinstance(tasks, dict) else tasks
    if isinstance(section, dict):  # validation rejects anything else
        alone = {"variants": [variant], "seeds": [seed], "tuning": None}
        raw = {**raw, "seeds": [seed], "scaling": None, "tasks": {task: {**section, **alone}}}
    study = _validate(raw, str(base or "configuration"), overrides, task)
    wanted = task, variant, seed
    runs = {run.setting: run for run in study.runs() if (run.task, run.variant, run.seed) == wanted}
    if not runs:
        raise ConfigError(f"--set: leaves no run of {task} with {variant} and seed {seed}; choose it without --set")
    if setting is None and len(runs) > 1:
        raise ConfigError(f"tasks.{task} has {len(runs)} settings, choose one with --setting: {', '.join(runs)}")
    if setting is not None and setting not in runs:
        raise ConfigError(f"--setting: there is no setting '{setting}' of {task}; allowed: {', '.join(runs)}")
    return runs[setting or next(iter(runs))], study


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which rejects a mapping that has a key twice instead of dropping the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; raises ConstructorError for a repeated key."""
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises ConfigError for anything else, and for a key that is given twice."""
    try:
        content = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a mapping of keys, not {type(content).__name__}")
    return content


def _parse(text: str) -> Any:
    """The content of a YAML text. Raises ValueError where it is not YAML."""
    try:
        return _numbers(yaml.load(text, UniqueKeyLoader))  # a SafeLoader
    except RecursionError:
        raise ValueError("an alias is inside itself, or there are too many levels") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # `!!bool maybe` and the like can raise anything
        raise ValueError(f"a value does not fit its tag ({error!r})") from None


def _apply(raw: dict[str, Any], override: str, task: str | None) -> None:
    """Set a dotted key in place; the key is removed from grid and named settings that vary it."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes key=value, not '{override}'")
    try:
        value = _parse(text)
    except ValueError:
        raise ConfigError(f"--set {key}: '{text}' is not a YAML value") from None
    parts = key.split(".")
    if task and parts[0] in SECTIONS:
        section = _mapping(_mapping(raw["tasks"]).get(task))
        for varied in [section.get("grid"), *_mapping(section.get("settings")).values()]:
            _mapping(varied).pop(key, None)
        parts = ["tasks", task, *parts]
    target = raw
    for depth, part in enumerate(parts[:-1], start=1):
        held = target.get(part)
        if held is None:
            held = target[part] = {}
        if not isinstance(held, dict):
            raise ConfigError(f"{'.'.join(parts[:depth])}: must be a mapping of keys, not {held!r}")
        target = held
    target[parts[-1]] = value
    if parts[-2:-1] == ["training"] and parts[-1] in DURATIONS and value is not None:
        target.pop(DURATIONS[parts[-1]], None)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _numbers(value: Any) -> Any:
    """A copy of nested mappings and lists in which text such as 1e-3 is a number."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value
