"""From a task's section to its settings: published values below it, its grid and named settings expanded."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from kvformer.config.messages import describe_errors
from kvformer.errors import ConfigError
from kvformer.spec.sections import ModelConfig, Section, TrainingConfig
from kvformer.tasks import TASKS

Scalar = bool | int | float | str
SECTIONS = ("data", "model", "training")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Setting(NamedTuple):
    """A task at one setting: its resolved sections and the grid values that name the setting."""

    name: str
    overrides: dict[str, Scalar]
    data: Section
    model: ModelConfig
    training: TrainingConfig


def with_defaults(name: str, section: Any, protocol: Any) -> Any:
    """A raw task section on top of the task's published settings and its protocol."""
    if name not in TASKS or not isinstance(section, dict):
        return section
    definition = TASKS[name]
    chosen = section.get("protocol") or protocol
    overlay = definition.protocols.get(chosen, {}) if isinstance(chosen, str) else {}
    filled = dict(section)
    for part in SECTIONS:
        given = section.get(part, {})
        if not isinstance(given, dict):
            continue
        base = {**definition.defaults.get(part, {}), **overlay.get(part, {})}
        if part == "training" and given.keys() & {"steps", "epochs"}:
            base = {key: value for key, value in base.items() if key not in ("steps", "epochs")}
        filled[part] = {**base, **given}
    return filled


def record_of(task: str, setting: Setting) -> dict[str, Any]:
    """A setting's name and sections, and the published values of the keys in which it departs from them."""
    sections = {part: getattr(setting, part).model_dump(mode="json") for part in SECTIONS}
    published = with_defaults(task, {}, "published")
    departures: dict[str, Any] = {}
    for part in SECTIONS:
        values = type(getattr(setting, part)).model_validate(published[part]).model_dump(mode="json")
        departures |= {f"{part}.{key}": value for key, value in values.items() if value != sections[part][key]}
    return {"setting": setting.name, **sections, "departures": departures}


def settings_of(name: str, section: Any) -> Iterator[Setting]:
    """The settings of a task's section. Raises ConfigError where a grid value is not allowed."""
    for key in section.nuisance:
        if key not in section.grid:
            raise ConfigError(
                f"tasks.{name}.nuisance: '{key}' is not in the grid; allowed: {', '.join(section.grid) or 'none'}"
            )
    keys, names = sorted(section.grid), set()
    for label, fixed in (section.settings or {None: {}}).items():
        if label is not None and not NAME.fullmatch(label):
            raise ConfigError(f"tasks.{name}.settings: a name is letters, digits, '.', '_' and '-', not '{label}'")
        if both := fixed.keys() & section.grid.keys():
            raise ConfigError(f"tasks.{name}.settings.{label}: '{min(both)}' is in the grid too; give it in one place")
        for values in itertools.product(*(section.grid[key] for key in keys)):
            given = {**fixed, **dict(zip(keys, values, strict=True))}
            sections = _resolve(name, section, given)
            overrides = {key: _value(sections, key) for key in given}
            parts = [] if label is None else [label]
            parts += [f"{key.split('.')[-1]}{_short(overrides[key])}" for key in keys]
            setting = Setting("-".join(parts) or "default", overrides, *sections)
            if setting.name in names:
                raise ConfigError(
                    f"tasks.{name}.grid: two settings are called '{setting.name}'; is a value listed twice?"
                )
            names.add(setting.name)
            try:
                TASKS[name].shape(setting.data, None)
            except ValueError as error:
                raise ConfigError(f"tasks.{name} (setting {setting.name}): {error}") from None
            yield setting


def _value(sections: tuple[Section, ...], key: str) -> Scalar:
    """The typed value of a dotted key: 0.001 where a file says 1e-3."""
    part, _, field = key.partition(".")
    value: Scalar = getattr(sections[SECTIONS.index(part)], field)
    return value


def _short(value: Scalar) -> str:
    """A value as a part of a folder's name."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        value = f"{value:g}"
    return re.sub(r"[^A-Za-z0-9._]", "_", str(value))


def _resolve(name: str, section: Any, overrides: Mapping[str, Scalar]) -> tuple[Section, ModelConfig, TrainingConfig]:
    """The typed sections of a task with dotted keys replaced."""
    changed: dict[str, dict[str, Any]] = {}
    for key, value in overrides.items():
        part, _, field = key.partition(".")
        if part not in SECTIONS or field not in type(getattr(section, part)).model_fields:
            known = [f"{s}.{f}" for s in SECTIONS for f in type(getattr(section, s)).model_fields]
            raise ConfigError(f"tasks.{name}.grid: there is no key '{key}'; allowed: {', '.join(known)}")
        changed.setdefault(part, {})[field] = value
        if part == "training" and field in ("steps", "epochs"):
            changed[part][{"steps": "epochs", "epochs": "steps"}[field]] = None
    resolved: list[Any] = []
    for part in SECTIONS:
        original = getattr(section, part)
        try:
            fields = {field: getattr(original, field) for field in type(original).model_fields} | changed.get(part, {})
            resolved.append(type(original).model_validate(fields))
        except ValidationError as error:
            raise ConfigError(f"tasks.{name}.grid: {describe_errors(error, type(original), part)}") from None
    data, model, training = resolved
    return data, model, training
