"""The one configuration. A study lists tasks, variants and seeds, and expands into runs; it knows no torch."""

import itertools
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    create_model,
    field_validator,
    model_validator,
)

from kvformer.config.execution import Execution, Resources
from kvformer.config.grid import NAME, Scalar, Setting, record_of, settings_of, with_defaults
from kvformer.config.run import ProtocolName, RunConfig
from kvformer.errors import ConfigError
from kvformer.spec.refusals import unsupported
from kvformer.spec.sections import Count, ModelConfig, Section, TrainingConfig
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS
from kvformer.tasks.base import TaskDefinition

Seeds = Annotated[int, Field(ge=1, le=10_000)] | Annotated[list[Count], Field(min_length=1)]
RESERVED = ("benchmarks", "code", "compare", "data", "logs", "mlflow", "reference")
"""Folders of results/ that belong to no study."""
MARGINS = {"accuracy": 0.01, "loss": 0.02, "bleu": 1.0}
"""Margins of equivalence where a study fixes no others."""


class TaskSection(Section):
    """One task of a study: published settings, changed by what is given here, crossed with a grid."""

    protocol: ProtocolName | None = Field(None, description="Protocol of this task; default is the study's.")
    variants: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="Variants of this task; default is the study's."
    )
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
    )


Tasks = create_model(
    "Tasks",
    __base__=Section,
    __doc__="The tasks to run; an empty section `{}` takes the published setting, null leaves a task out.",
    **{
        f"task_{name}": (_section_class(definition) | None, Field(None, alias=name, description=definition.summary))
        for name, definition in TASKS.items()
    },
)  # type: ignore[call-overload]


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
        MARGINS,
        description="By metric: differences to the baseline inside ± this margin count as equivalent.",
    )
    tasks: Tasks = Field(Tasks(), description="The tasks to run.")
    execution: Execution = Field(Execution(), description="Where and how jobs run; a change trains nothing anew.")
    profile: bool = Field(False, description="Also count and measure what every variant costs (`kvformer profile`).")
    on_missing: Literal["fail", "skip"] = Field(
        "fail",
        description="What to do with tasks whose data cannot be had: stop before any job starts, or leave them out.",
    )

    @field_validator("equivalence_margin", mode="before")
    @classmethod
    def _keep_other_margins(cls, raw: Any) -> Any:
        return {**MARGINS, **raw} if isinstance(raw, dict) else raw

    @model_validator(mode="before")
    @classmethod
    def _fill_published_settings(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("tasks"), dict):
            return raw
        protocol = raw.get("protocol", "published")
        tasks = {name: with_defaults(name, section, protocol) for name, section in raw["tasks"].items()}
        return {**raw, "tasks": tasks}

    @model_validator(mode="after")
    def _names_exist(self) -> "StudyConfig":
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name must be letters, digits, '.', '_' and '-', not '{self.name}'")
        if self.name in RESERVED:
            raise ValueError(f"name: results/{self.name} is not for a study; choose none of {', '.join(RESERVED)}")
        metrics = {*MARGINS, *(task.metric for task in TASKS.values())}
        for metric in self.equivalence_margin:
            if metric not in metrics:
                raise ValueError(
                    f"equivalence_margin: there is no metric '{metric}'; allowed: {', '.join(sorted(metrics))}"
                )
        if self.baseline not in VARIANTS:
            raise ValueError(f"baseline: there is no variant '{self.baseline}'; allowed: {', '.join(VARIANTS)}")
        for where, part in [("", self), *((f"tasks.{name}.", section) for name, section in self.sections().items())]:
            variants, seeds = part.variants or [], part.seeds if isinstance(part.seeds, list) else []
            for variant in variants:
                if variant not in VARIANTS:
                    raise ValueError(
                        f"{where}variants: there is no variant '{variant}'; allowed: {', '.join(VARIANTS)}"
                    )
            for key, values in (("variants", variants), ("seeds", seeds)):
                if len(set(values)) < len(values):
                    raise ValueError(f"{where}{key}: a value is listed twice: {', '.join(map(str, values))}")
        return self

    def sections(self) -> dict[str, Any]:
        """The task sections that are present, by name."""
        return {name: section for name in TASKS if (section := getattr(self.tasks, f"task_{name}")) is not None}

    @cached_property
    def settings(self) -> dict[str, list[Setting]]:
        """The settings of each task. Raises ConfigError where a grid value is not allowed."""
        return {name: list(settings_of(name, section)) for name, section in self.sections().items()}

    def runs(self) -> list[RunConfig]:
        """Every run of the study, in a fixed order. Raises ConfigError where a variant does not fit a model."""
        return list(self._runs())

    def _runs(self) -> Iterator[RunConfig]:
        for name, section in self.sections().items():
            architecture = TASKS[name].architecture
            variants, seeds = section.variants or self.variants, section.seeds or self.seeds
            for setting, variant in itertools.product(self.settings[name], variants):
                if problem := unsupported(VARIANTS[variant], setting.model, architecture):
                    raise ConfigError(f"tasks.{name} (setting {setting.name}): {problem}")
                for seed in range(seeds) if isinstance(seeds, int) else seeds:
                    yield RunConfig(
                        task=name,
                        setting=setting.name,
                        variant=variant,
                        seed=seed,
                        protocol=section.protocol or self.protocol,
                        model=setting.model,
                        data=setting.data,
                        training=setting.training,
                        overrides=setting.overrides,
                    )

    def datasets(self) -> list[str]:
        """Names of the prepared data sets that the study needs, sorted."""
        needed = (TASKS[name].datasets(one.data) for name, settings in self.settings.items() for one in settings)
        return sorted(set(itertools.chain.from_iterable(needed)))

    def _chance(self, task: str) -> float | None:
        """The metric of a guess, where it is known and the same in all settings of a task."""
        found = {TASKS[task].chance(setting.data) for setting in self.settings[task]}
        return found.pop() if len(found) == 1 else None

    def content(self) -> dict[str, Any]:
        """The study as data for reporting: the content of results/<name>/study.json.

        Raises ConfigError where a variant does not fit a model, or nothing is left to compare with.
        """
        runs = self.runs()
        present = {run.variant for run in runs}
        if self.baseline not in present:
            raise ConfigError(
                f"baseline: is {self.baseline}, which takes part in no task; "
                f"allowed: {', '.join(name for name in VARIANTS if name in present)}"
            )
        variants = [VARIANTS[name] for name in VARIANTS if name in present]
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
                    "chance": self._chance(name),
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
            "settings": [
                {"task": name, "protocol": section.protocol or self.protocol, **record_of(name, setting)}
                for name, section in self.sections().items()
                for setting in self.settings[name]
            ],
        }
