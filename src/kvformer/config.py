"""The one configuration. A study lists tasks, variants and seeds, and expands into runs; it knows no torch."""

import itertools
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, SerializeAsAny, ValidationError, create_model, field_validator, model_validator

from kvformer.errors import ConfigError
from kvformer.files import canonical_json, sha256_bytes
from kvformer.sections import Count, Execution, ModelConfig, Resources, Section, TrainingConfig
from kvformer.tasks import TASKS
from kvformer.tasks.base import TaskDefinition
from kvformer.variants import VARIANTS, unsupported

ProtocolName = Literal["published", "corrected"]
Scalar = bool | int | float | str
Seeds = Annotated[int, Field(ge=1, strict=True)] | list[Count]
SECTIONS = ("data", "model", "training")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RunConfig(Section):
    """One training run, fully resolved: everything that its result depends on.

    `overrides` holds the grid values that distinguish its setting from the others of the task; it and the setting's name are labels
    and do not enter the hash.
    """

    task: str
    setting: str
    variant: str
    seed: Count
    protocol: ProtocolName
    model: ModelConfig
    data: SerializeAsAny[Section]
    training: TrainingConfig
    overrides: dict[str, Scalar] = {}

    @field_validator("data", mode="before")
    @classmethod
    def _typed_data(cls, value: Any, info: Any) -> Any:
        definition = TASKS[info.data["task"]]
        return value if isinstance(value, Section) else definition.data_config.model_validate(value)

    @property
    def definition(self) -> TaskDefinition:
        """The task's definition."""
        return TASKS[self.task]

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits over everything that changes the result."""
        content = self.model_dump(mode="json", exclude={"setting", "overrides"})
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

    def to_json(self) -> str:
        """The run as one line of canonical JSON; `RunConfig.from_json` reads it back."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Parse `to_json`'s output. Raises ConfigError."""
        try:
            return cls.model_validate_json(text)
        except (ValidationError, KeyError) as error:
            raise ConfigError(f"--run: not a run's configuration: {str(error).splitlines()[0]}") from None


class TaskSection(Section):
    """One task of a study: published settings, changed by what is given here, crossed with a grid."""

    protocol: ProtocolName | None = Field(None, description="Protocol of this task; default is the study's.")
    variants: list[str] | None = Field(None, description="Variants of this task; default is the study's.")
    seeds: Seeds | None = Field(None, description="Seeds of this task (a number, or a list); default is the study's.")
    model: ModelConfig
    training: TrainingConfig
    grid: dict[str, Annotated[list[Scalar], Field(min_length=1)]] = Field(
        {}, description="Values to combine, by key: {model.dim: [64, 256], data.length: [16, 64]}."
    )
    settings: dict[str, dict[str, Scalar]] = Field(
        {}, description="Named settings that are no full grid: {small: {model.dim: 64}}; crossed with the grid."
    )
    nuisance: list[str] = Field(
        [], description="Keys of the grid whose best value is chosen for each variant by validation."
    )
    resources: Resources = Field(Resources(), description="What a scheduler must know of one training job.")


def _section_class(definition: TaskDefinition) -> type[TaskSection]:
    name = "".join(part.capitalize() for part in definition.name.split("_"))
    return create_model(
        f"{name}Task", __base__=TaskSection, __doc__=definition.summary, data=(definition.data_config, ...)
    )  # type: ignore[call-overload,no-any-return]


Tasks = create_model(
    "Tasks",
    __base__=Section,
    __doc__="The tasks to run; an empty section `{}` takes the published setting, null leaves a task out.",
    **{
        f"task_{name}": (_section_class(definition) | None, Field(None, alias=name, description=definition.summary))
        for name, definition in TASKS.items()
    },
)  # type: ignore[call-overload]


class Cell(NamedTuple):
    """A task at one setting: its resolved sections and the grid values that name the setting."""

    setting: str
    overrides: dict[str, Scalar]
    data: Section
    model: ModelConfig
    training: TrainingConfig


class StudyConfig(Section):
    """A study: tasks x settings x variants x seeds."""

    name: str = Field("default", description="Results go to results/<name>.")
    description: str = Field("", description="One sentence for the report.")
    protocol: ProtocolName = Field(
        "published", description="As the authors ran it, oddities included, or corrected (docs/protocols.md)."
    )
    variants: Annotated[list[str], Field(min_length=1)] = Field(
        ["qkv", "kv", "kv_pos"], description="Attention variants; `kvformer variants` lists them."
    )
    baseline: str = Field("qkv", description="The variant that the others are compared with.")
    seeds: Seeds = Field(3, description="Seeds: a number k for 0 … k-1, or a list.")
    equivalence_margin: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {"accuracy": 0.01, "loss": 0.02, "bleu": 1.0},
        description="By metric: differences to the baseline inside ± this margin count as equivalent.",
    )
    tasks: Tasks = Field(Tasks(), description="The tasks to run.")  # type: ignore[valid-type]
    execution: Execution = Field(Execution(), description="Where and how jobs run; never changes a result.")
    profile: bool = Field(False, description="Also count and measure what every variant costs (`kvformer profile`).")
    on_missing: Literal["fail", "skip"] = Field(
        "fail",
        description="What to do with tasks whose data cannot be had: stop before any job starts, or leave them out.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_published_settings(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("tasks"), dict):
            return raw
        protocol = raw.get("protocol", "published")
        tasks = {name: _with_defaults(name, section, protocol) for name, section in raw["tasks"].items()}
        return {**raw, "tasks": tasks}

    @model_validator(mode="after")
    def _names_exist(self) -> "StudyConfig":
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name must be letters, digits, '.', '_' and '-', not '{self.name}'")
        for name, section in [("", None), *self.sections().items()]:
            where = f"tasks.{name}.variants" if section else "variants"
            listed = self.variants if section is None else (section.variants or [])
            for variant in [*listed, *([self.baseline] if section is None else [])]:
                if variant not in VARIANTS:
                    raise ValueError(f"{where}: there is no variant '{variant}'; allowed: {', '.join(VARIANTS)}")
            if len(set(listed)) < len(listed):
                raise ValueError(f"{where}: a variant is listed twice: {', '.join(listed)}")
        return self

    def sections(self) -> dict[str, Any]:
        """The task sections that are present, by name."""
        return {name: section for name in TASKS if (section := getattr(self.tasks, f"task_{name}")) is not None}

    @cached_property
    def cells(self) -> dict[str, list[Cell]]:
        """The settings of each task. Raises ConfigError where a grid value is not allowed."""
        return {name: list(_cells(name, section)) for name, section in self.sections().items()}

    def runs(self) -> list[RunConfig]:
        """Every run of the study, in a fixed order. Raises ConfigError where a variant does not fit a model."""
        return list(self._runs())

    def _runs(self) -> Iterator[RunConfig]:
        for name, section in self.sections().items():
            kind = TASKS[name].model
            variants, seeds = section.variants or self.variants, section.seeds or self.seeds
            for cell, variant in itertools.product(self.cells[name], variants):
                if problem := unsupported(VARIANTS[variant], cell.model.heads, kind):
                    raise ConfigError(f"tasks.{name} (setting {cell.setting}): {problem}")
                for seed in range(seeds) if isinstance(seeds, int) else seeds:
                    yield RunConfig(
                        task=name,
                        setting=cell.setting,
                        variant=variant,
                        seed=seed,
                        protocol=section.protocol or self.protocol,
                        model=cell.model,
                        data=cell.data,
                        training=cell.training,
                        overrides=cell.overrides,
                    )

    def datasets(self) -> list[str]:
        """Names of the prepared data sets that the study needs, sorted."""
        needed = (TASKS[name].datasets(cell.data) for name, cells in self.cells.items() for cell in cells)
        return sorted(set(itertools.chain.from_iterable(needed)))

    def manifest(self) -> dict[str, Any]:
        """The study as data for reporting: the content of results/<name>/study.json."""
        runs = self.runs()
        used = dict.fromkeys([self.baseline, *(run.variant for run in runs)])
        present = {run.variant for run in runs}
        variants = [VARIANTS[name] for name in VARIANTS if name in used and name in present]
        return {
            "name": self.name,
            "description": self.description,
            "protocol": self.protocol,
            "baseline": self.baseline,
            "equivalence_margin": self.equivalence_margin,
            "variants": [
                {"name": v.name, "label": v.label, "formula": v.formula, "reference": v.reference} for v in variants
            ],
            "tasks": [
                {
                    "name": name,
                    "label": TASKS[name].label,
                    "family": TASKS[name].family,
                    "metric": TASKS[name].metric,
                    "goal": TASKS[name].goal,
                    "chance": TASKS[name].chance,
                    "nuisance": section.nuisance,
                }
                for name, section in self.sections().items()
            ],
            "runs": [
                {
                    **run.model_dump(include={"task", "setting", "variant", "seed", "overrides"}),
                    "hash": run.hash,
                    "path": run.path,
                }
                for run in runs
            ],
        }


def _with_defaults(name: str, section: Any, protocol: Any) -> Any:
    """A raw task section on top of the task's published settings and its protocol."""
    if name not in TASKS or not isinstance(section, dict):
        return section
    definition = TASKS[name]
    overlay = definition.protocols.get(section.get("protocol") or protocol, {})
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


def _cells(name: str, section: Any) -> Iterator[Cell]:
    for key in section.nuisance:
        if key not in section.grid:
            raise ConfigError(
                f"tasks.{name}.nuisance: '{key}' is not in the grid; allowed: {', '.join(section.grid) or 'none'}"
            )
    keys = sorted(section.grid)
    for label, fixed in (section.settings or {"": {}}).items():
        if label and not NAME.fullmatch(label):
            raise ConfigError(f"tasks.{name}.settings: a name is letters, digits, '.', '_' and '-', not '{label}'")
        for values in itertools.product(*(section.grid[key] for key in keys)):
            grid = dict(zip(keys, values, strict=True))
            parts = [label] if label else []
            parts += [f"{key.split('.')[-1]}{_short(value)}" for key, value in grid.items()]
            cell = Cell("-".join(parts) or "default", {**fixed, **grid}, *_resolve(name, section, {**fixed, **grid}))
            try:
                TASKS[name].shape(cell.data, None)
            except ValueError as error:
                raise ConfigError(f"tasks.{name} (setting {cell.setting}): {error}") from None
            yield cell


def _short(value: Scalar) -> str:
    return re.sub(r"[^A-Za-z0-9._]", "_", f"{value:g}" if isinstance(value, float) else str(value))


def _resolve(name: str, section: Any, overrides: Mapping[str, Scalar]) -> tuple[Section, ModelConfig, TrainingConfig]:
    """The typed sections of a task with dotted keys replaced."""
    changed: dict[str, dict[str, Any]] = {}
    for key, value in overrides.items():
        part, _, field = key.partition(".")
        if part not in SECTIONS or field not in type(getattr(section, part)).model_fields:
            fields = [f"{s}.{f}" for s in SECTIONS for f in type(getattr(section, s)).model_fields]
            raise ConfigError(f"tasks.{name}.grid: there is no key '{key}'; allowed: {', '.join(fields)}")
        changed.setdefault(part, {})[field] = value
        if part == "training" and field in ("steps", "epochs"):
            changed[part][{"steps": "epochs", "epochs": "steps"}[field]] = None
    resolved = []
    for part in SECTIONS:
        original = getattr(section, part)
        try:
            fields = {field: getattr(original, field) for field in type(original).model_fields}
            resolved.append(type(original).model_validate({**fields, **changed[part]}) if part in changed else original)
        except ValidationError as error:
            raise ConfigError(f"tasks.{name}.grid: {describe_errors(error, type(original), part)}") from None
    return tuple(resolved)  # type: ignore[return-value]


def describe_errors(error: ValidationError, root: type[Section], prefix: str = "") -> str:
    """A ValidationError as one line: the key, what it holds and what is allowed."""
    import difflib

    first, *others = error.errors(include_url=False)
    location = [str(part) for part in first["loc"]]
    key = ".".join([prefix, *location] if prefix else location)
    held = first.get("input")
    if first["type"] == "extra_forbidden":
        known = _known_keys(root, location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        text = f"unknown key; {hint}allowed: {', '.join(known)}"
    elif first["type"] == "value_error":
        text = str(first["ctx"]["error"])
    elif isinstance(held, dict | list):
        text = first["msg"]
    else:
        text = f"{first['msg']}, not {held!r}"
    more = f" (and {len(others)} more)" if others else ""
    return f"{key}: {text}{more}" if key else f"{text}{more}"


def _known_keys(model: Any, location: list[str]) -> list[str]:
    """The keys of the section at `location` below a section class."""
    for part in location:
        fields = getattr(model, "model_fields", {})
        field = fields.get(part) or fields.get(f"task_{part}")
        if field is None:
            return []
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)
    return [field.alias or name for name, field in model.model_fields.items()] if model is not None else []
