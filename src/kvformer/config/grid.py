"""One task of a study: its section of the configuration, and the settings that the section expands to."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from kvformer.config.execution import Resources
from kvformer.config.looks import MOST_SEEDS
from kvformer.config.messages import describe_errors
from kvformer.errors import ConfigError
from kvformer.records.study import SettingEntry
from kvformer.spec.sections import Count, ModelConfig, Section, TrainingConfig
from kvformer.tasks import TASKS
from kvformer.tasks.base import Sections

Scalar = bool | int | float | str
ProtocolName = Literal["published", "corrected", "successor"]
"""The first two exist for every task; others where a task defines them (`TaskDefinition.protocols`)."""
Seeds = Annotated[int, Field(ge=1, le=MOST_SEEDS)] | Annotated[list[Count], Field(min_length=1)]
Variants = Annotated[list[str], Field(min_length=1)]
SECTIONS = ("data", "model", "training")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
"""Names that are no files on Windows and on some network drives, with any ending and in any case."""
DURATIONS = {"steps": "epochs", "epochs": "steps"}
"""The two keys of `training` that exclude each other."""
FIRST_TUNING_SEED = 9000
"""Tuning seeds that are given as a number are counted from here, far from reported ones, of which there may be more
some day."""


class Tuning(Section):
    """What is tuned for each variant before the variants are compared: see `config.tuning`."""

    grid: dict[str, Annotated[list[Scalar], Field(min_length=1)]] = Field(
        {}, description="Values to try, by key of model or training; every combination is tried."
    )
    seeds: Annotated[int, Field(ge=1, le=1_000)] | Annotated[list[Count], Field(min_length=1)] = Field(
        2, description="Seeds of each trial, never reported: a number k for 9000 … 9000+k-1, or a list."
    )

    @property
    def numbers(self) -> list[int]:
        """The tuning seeds."""
        first = FIRST_TUNING_SEED
        return list(range(first, first + self.seeds)) if isinstance(self.seeds, int) else self.seeds


class TaskSection(Section):
    """One task of a study: published settings, changed by what is given here, crossed with a grid.

    Each task has a subclass, whose `data` is of the task's own class.
    """

    protocol: ProtocolName | None = Field(None, description="Protocol of this task; default is the study's.")
    variants: Variants | None = Field(None, description="Variants of this task; default is the study's.")
    seeds: Seeds | None = Field(None, description="Seeds of this task (a number, or a list); default is the study's.")
    data: Section
    model: ModelConfig
    training: TrainingConfig
    grid: dict[str, Annotated[list[Scalar], Field(min_length=1)]] = Field(
        {}, description="Values to combine, by key: {model.dim: [64, 256], data.length: [16, 64]}."
    )
    settings: dict[str, dict[str, Scalar]] = Field(
        {},
        description="Named settings, for combinations that do not form a full grid: {small: {model.dim: 64}}; "
        "crossed with the grid.",
    )
    tuning: Tuning | None = Field(
        None, description="Tuning of this task; default is the study's, null switches it off."
    )
    resources: Resources = Field(Resources(), description="What a scheduler must know about one training job.")


class Setting(NamedTuple):
    """One grid point of a task: its resolved sections and the values that name it, by dotted key."""

    name: str
    overrides: dict[str, Scalar]
    data: Section
    model: ModelConfig
    training: TrainingConfig

    def entry(self, task: str, protocol: ProtocolName) -> SettingEntry:
        """The setting as a record, with the published value of each key in which it departs from them."""
        sections = {part: getattr(self, part).model_dump(mode="json") for part in SECTIONS}
        published = with_defaults(task, {}, "published")
        departures: dict[str, Any] = {}
        for part in SECTIONS:
            values = type(getattr(self, part)).model_validate(published[part]).model_dump(mode="json")
            departures |= {f"{part}.{key}": value for key, value in values.items() if value != sections[part][key]}
        return SettingEntry(task=task, setting=self.name, protocol=protocol, **sections, departures=departures)


def with_defaults(task: str, section: Any, protocol: Any) -> Any:
    """A section as read, on top of the task's published settings and its protocol. What is not valid is left as it is,
    for validation to reject."""
    if task not in TASKS or not isinstance(section, dict):
        return section
    definition = TASKS[task]
    chosen = section.get("protocol") or protocol
    overlay = definition.protocols.get(chosen, {}) if isinstance(chosen, str) else {}
    filled = dict(section)
    for part in SECTIONS:
        given = section.get(part, {})
        if not isinstance(given, dict):
            continue
        base = {**definition.defaults.get(part, {}), **overlay.get(part, {})}
        if part == "training" and given.keys() & DURATIONS:
            base = {key: value for key, value in base.items() if key not in DURATIONS}
        filled[part] = {**base, **given}
    return filled


def settings_of(task: str, section: TaskSection) -> Iterator[Setting]:
    """The settings of a task's section. Raises ConfigError where a name or a value is not allowed."""
    where = f"tasks.{task}"
    keys, names = sorted(section.grid), dict[str, str]()
    named: list[tuple[str | None, dict[str, Scalar]]] = [*section.settings.items()] or [(None, {})]
    for label, fixed in named:
        if label is not None and (problem := faulty_name(label)):
            raise ConfigError(f"{where}.settings: a name {problem}")
        if both := fixed.keys() & section.grid.keys():
            raise ConfigError(f"{where}.settings.{label}: '{min(both)}' is in the grid too; give it in one place")
        source = " or ".join([*([f"settings.{label}"] if fixed else []), *(["grid"] if keys else [])])
        for values in itertools.product(*(section.grid[key] for key in keys)):
            given = {**fixed, **dict(zip(keys, values, strict=True))}
            sections = resolve(f"{where}.{source}", section, given)
            overrides = {key: value_of(sections, key) for key in given}
            parts = [] if label is None else [label]
            parts += [short_name(key, overrides[key]) for key in keys]
            name = "-".join(parts) or "default"
            if (other := names.get(name.casefold())) == name:
                raise ConfigError(f"{where}.grid: two settings are called '{name}'; is a value listed twice?")
            if other:
                raise ConfigError(f"{where}: the settings '{other}' and '{name}' differ only in case; rename one")
            names[name.casefold()] = name
            try:
                TASKS[task].shape(sections["data"], None)
            except ValueError as error:
                raise ConfigError(f"{where} (setting {name}): {error}") from None
            yield Setting(name, overrides, **sections)


def faulty_name(name: str) -> str | None:
    """Why this cannot be the name of a folder everywhere, to be read after "a name"; None where it can."""
    if not NAME.fullmatch(name):
        return f"is letters, digits, '.', '_' and '-', a letter or digit first and no '.' last, not '{name}'"
    if name.split(".")[0].casefold() in DEVICES:
        return f"that Windows reserves cannot be used: '{name}'"
    return None


def resolve(where: str, given: Sections, overrides: Mapping[str, Scalar]) -> dict[str, Any]:
    """The typed sections of a task with dotted keys replaced. Raises ConfigError, which names the key `where`."""
    changed: dict[str, dict[str, Any]] = {part: {} for part in SECTIONS}
    for key, value in overrides.items():
        part, _, field = key.partition(".")
        if part not in SECTIONS or field not in type(getattr(given, part)).model_fields:
            known = [f"{s}.{f}" for s in SECTIONS for f in type(getattr(given, s)).model_fields]
            raise ConfigError(f"{where}: there is no key '{key}'; allowed: {', '.join(known)}")
        changed[part][field] = value
        if part == "training" and field in DURATIONS:
            changed[part][DURATIONS[field]] = None
    resolved = {}
    for part in SECTIONS:
        original: Section = getattr(given, part)
        try:
            resolved[part] = type(original).model_validate({**dict(original), **changed[part]})
        except ValidationError as error:
            raise ConfigError(f"{where}: {describe_errors(error, type(original), part)}") from None
    return resolved


def value_of(sections: Mapping[str, Section], key: str) -> Scalar:
    """The typed value of a dotted key: 0.001 where a file says 1e-3."""
    part, _, field = key.partition(".")
    value: Scalar = getattr(sections[part], field)
    return value


def short_name(key: str, value: Scalar) -> str:
    """A key and its value as a part of a folder's name."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        value = f"{value:g}"
    return key.split(".")[-1] + re.sub(r"[^A-Za-z0-9._]", "_", str(value))
