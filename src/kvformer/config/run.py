"""One training run, fully resolved."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from kvformer.config.grid import ProtocolName, Scalar, resolve
from kvformer.config.messages import describe_errors, unknown
from kvformer.errors import ConfigError
from kvformer.files import canonical_json, sha256_bytes
from kvformer.records.study import RunEntry, SettingEntry, StudyManifest
from kvformer.spec.refusals import unsupported
from kvformer.spec.sections import Count, ModelConfig, Section, TrainingConfig
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS
from kvformer.tasks.base import TaskDefinition


class RunConfig(Section):
    """One training run, fully resolved: everything that its result depends on; `data` is of the task's own class.

    `overrides` holds the grid values that distinguish its setting from the others of the task. It and the name of the
    setting are labels: they do not enter the hash.
    """

    task: str
    setting: str
    variant: str
    seed: Count
    protocol: ProtocolName
    model: ModelConfig
    data: Any
    training: TrainingConfig
    overrides: dict[str, Scalar] = Field({})

    @field_validator("task", "variant")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        known = TASKS if info.field_name == "task" else VARIANTS
        if name not in known:
            raise ValueError(unknown(str(info.field_name), name, known))
        return name

    @field_validator("data", mode="before")
    @classmethod
    def _typed_data(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Section) or "task" not in info.data:
            return value
        return TASKS[info.data["task"]].data_config.model_validate(value)

    @model_validator(mode="after")
    def _variant_fits(self) -> "RunConfig":
        architecture = self.definition.architecture
        if problem := unsupported(VARIANTS[self.variant], self.model, architecture):
            raise ValueError(problem)
        return self

    @property
    def definition(self) -> TaskDefinition:
        """The task's definition."""
        return TASKS[self.task]

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits over everything that changes the result."""
        content = self.model_dump(mode="json", exclude={"setting", "overrides"})
        content |= {name: getattr(self, name).identity() for name in ("model", "data", "training")}
        return sha256_bytes(canonical_json(content).encode())[:16]

    @property
    def path(self) -> str:
        """The run's folder, relative to the study's folder."""
        return f"runs/{self.task}/{self.setting}/{self.variant}/seed{self.seed}"

    @property
    def datasets(self) -> tuple[str, ...]:
        """Prepared data sets that the run reads."""
        return self.definition.datasets(self.data)

    @property
    def threads(self) -> int:
        """CPU threads of the training process."""
        return self.training.threads

    def entry(self) -> RunEntry:
        """The run as a record of its study."""
        labels = self.model_dump(include={"task", "setting", "variant", "seed", "overrides"})
        return RunEntry(**labels, hash=self.hash, path=self.path)

    @classmethod
    def from_entry(cls, run: RunEntry, setting: SettingEntry) -> "RunConfig":
        """The run that `entry` describes, at its setting. Raises ValidationError where it is not valid (any more)."""
        sections = setting.model_dump(include={"protocol", "data", "model", "training"})
        labels = {name: getattr(run, name) for name in ("task", "setting", "variant", "seed", "overrides")}
        return cls(**labels, **sections).tuned(run.tuned)

    def tuned(self, values: Mapping[str, Scalar]) -> "RunConfig":
        """This run with other values of these dotted keys. Raises ConfigError where they are not allowed."""
        if not values:
            return self
        fields = {name: getattr(self, name) for name in RunConfig.model_fields}
        return RunConfig(**{**fields, **resolve("tuned", self, values)})

    def to_json(self) -> str:
        """The run as one line of canonical JSON; `RunConfig.from_json` reads it back."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Parse `to_json`'s output. Raises ConfigError."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(f"--run: {describe_errors(error, cls)}") from None


def runs_to_json(runs: Sequence[RunConfig]) -> str:
    """Runs as one line of JSON: the first in full, of the others what differs from it."""
    first, *others = (run.model_dump(mode="json") for run in runs)
    differences = ({key: value for key, value in other.items() if value != first[key]} for other in others)
    return canonical_json([first, *differences])


def runs_from_json(text: str) -> list[RunConfig]:
    """Parse `runs_to_json`'s output. Raises ConfigError."""
    try:
        first, *others = json.loads(text)
        return [RunConfig.model_validate_json(canonical_json({**first, **other})) for other in ({}, *others)]
    except ValidationError as error:
        raise ConfigError(f"--runs: {describe_errors(error, RunConfig)}") from None
    except (ValueError, TypeError):
        raise ConfigError("--runs: is not a JSON list of runs") from None


def runs_of(manifest: StudyManifest) -> list[RunConfig]:
    """The runs of a study that is given as its record. Raises ConfigError where one is not valid (any more)."""
    settings = manifest.sections
    try:
        return [RunConfig.from_entry(run, settings[run.task, run.setting]) for run in manifest.runs]
    except KeyError as error:
        raise ConfigError(f"study '{manifest.name}': the setting of {error} is missing") from None
    except ValidationError as error:
        raise ConfigError(f"study '{manifest.name}': {describe_errors(error, RunConfig)}") from None
