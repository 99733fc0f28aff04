"""The one configuration: a study lists tasks, variants and seeds, and expands into runs."""

import itertools
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from kvformer.config.execution import Execution
from kvformer.config.grid import (
    ProtocolName,
    Seeds,
    Setting,
    TaskSection,
    Tuning,
    Variants,
    faulty_name,
    settings_of,
    with_defaults,
)
from kvformer.config.looks import Looks, seed_numbers
from kvformer.config.messages import describe_errors, unknown
from kvformer.config.run import RunConfig
from kvformer.errors import ConfigError
from kvformer.records.study import SkippedTask, StudyManifest, TaskEntry, VariantEntry
from kvformer.spec.sections import Section
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS
from kvformer.tasks.base import TaskDefinition

RESERVED = ("archive", "benchmarks", "compare", "data", "logs", "mlflow", "reference")
"""Folders of results/ that belong to no study."""
MARGINS = {"accuracy": 0.01, "loss": 0.02, "bleu": 1.0}
"""Margins of equivalence where a study fixes no others."""


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
        "published", description="As published, with its oddities; corrected; or the successor's (docs/protocols.md)."
    )
    variants: Variants = Field(
        ["qkv", "kv", "kv_pos"], description="Attention variants; `kvformer variants` lists them."
    )
    baseline: str = Field("qkv", description="The variant that the others are compared with.")
    seeds: Seeds | Looks = Field(
        3,
        description="Seeds: a number k for 0 … k-1, or a list; or `{looks: [8, 12, 20]}`: after 8 seeds, comparisons "
        "that are decided stop, and the others get more seeds, up to 20.",
    )
    equivalence_margin: dict[str, Annotated[float, Field(gt=0)]] = Field(
        MARGINS,
        description="By metric: a difference to the baseline that lies within ± this margin counts as equivalent.",
    )
    tuning: Tuning | None = Field(
        None,
        description="Tune every variant on seeds of its own before the variants are compared: "
        "{grid: {training.learning_rate: [3e-4, 1e-3, 3e-3]}, seeds: 2}.",
    )
    tasks: Tasks = Field(Tasks(), description="The tasks to run.")
    execution: Execution = Field(
        Execution(), description="Where and how jobs run. Changing these keys retrains nothing."
    )
    cost: bool = Field(False, description="Also count and measure what every variant costs (`kvformer cost`).")
    scaling: str | None = Field(
        None,
        description="A task whose settings differ in size and steps: fit a scaling law to its losses "
        "(docs/statistics.md). Needs `cost: true`.",
    )
    on_missing: Literal["fail", "skip"] = Field(
        "fail",
        description="What to do with tasks whose data are not available: stop before any job starts, or leave them "
        "out.",
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
        if problem := faulty_name(self.name):
            raise ValueError(f"name: a name {problem}")
        if self.name.casefold() in RESERVED:
            raise ValueError(f"name: results/{self.name} is reserved; do not use any of {', '.join(RESERVED)}")
        if self.name.casefold() == "default" != self.name:
            raise ValueError(f"name: MLflow reserves '{self.name}' for itself; allowed: default, or another name")
        metrics = sorted({*MARGINS, *(task.metric for task in TASKS.values())})
        _check("equivalence_margin", "metric", self.equivalence_margin, metrics)
        _check("baseline", "variant", [self.baseline], VARIANTS)
        for name, section in self.sections().items():
            protocols = dict.fromkeys(("published", "corrected", *TASKS[name].protocols))
            _check(f"tasks.{name}.protocol", "protocol", [section.protocol or self.protocol], protocols)
        sections = {f"tasks.{name}.": section for name, section in self.sections().items()}
        parts: dict[str, StudyConfig | TaskSection] = {"": self, **sections}
        for where, part in parts.items():
            _check(f"{where}variants", "variant", part.variants or [], VARIANTS)
            for key in ("variants", "seeds"):
                values = getattr(part, key)
                if isinstance(values, list) and len(set(values)) < len(values):
                    raise ValueError(f"{where}{key}: a value is listed twice: {', '.join(map(str, values))}")
        if isinstance(self.seeds, Looks):
            self._check_looks()
        return self

    def _check_looks(self) -> None:
        compared = False
        for name, section in self.sections().items():
            if section.seeds is not None:
                raise ValueError(f"tasks.{name}.seeds: looks are taken over all tasks together; leave this key out")
            variants = section.variants or self.variants
            if self.baseline not in variants:
                raise ValueError(
                    f"tasks.{name}: the baseline {self.baseline} is missing, and with looks every task needs it; "
                    f"its variants: {', '.join(variants)}"
                )
            compared |= len(variants) > 1
        if self.sections() and not compared:
            raise ValueError(f"seeds.looks: nothing is compared: {self.baseline}, the baseline, is the only variant")

    def sections(self) -> dict[str, TaskSection]:
        """The task sections that are present, by name."""
        return {name: section for name in TASKS if (section := getattr(self.tasks, f"task_{name}")) is not None}

    @property
    def looks(self) -> list[int]:
        """Seeds at each look, none where the seeds are fixed."""
        return self.seeds.looks if isinstance(self.seeds, Looks) else []

    @cached_property
    def settings(self) -> dict[str, list[Setting]]:
        """The settings of each task. Raises ConfigError where a grid value is not allowed."""
        return {name: list(settings_of(name, section)) for name, section in self.sections().items()}

    def runs(self) -> list[RunConfig]:
        """Every run of the study, in a fixed order; with looks, all that the last look may need.

        Raises ConfigError where a variant does not fit a model.
        """
        tasks = self.settings.items()
        return [run for task, settings in tasks for run in self.runs_at(task, settings, self.seeds_of(task))]

    def seeds_of(self, task: str) -> list[int]:
        """The seeds of a task that are reported; with looks, all that the last look may need."""
        return seed_numbers(self.sections()[task].seeds or self.seeds)

    def runs_at(self, task: str, settings: Iterable[Setting], seeds: Iterable[int]) -> Iterator[RunConfig]:
        """The runs of a task's variants at these settings and seeds. Raises ConfigError as `runs`."""
        section = self.sections()[task]
        for setting, variant, seed in itertools.product(settings, section.variants or self.variants, seeds):
            try:
                yield RunConfig(
                    task=task,
                    setting=setting.name,
                    variant=variant,
                    seed=seed,
                    protocol=section.protocol or self.protocol,
                    model=setting.model,
                    data=setting.data,
                    training=setting.training,
                    overrides=setting.overrides,
                )
            except ValidationError as error:
                problem = describe_errors(error, RunConfig)
                raise ConfigError(f"tasks.{task} (setting {setting.name}): {problem}") from None

    def datasets(self) -> list[str]:
        """Names of the prepared data sets that the study needs, sorted."""
        return sorted({name for task in self.settings for name in self.datasets_of(task)})

    def datasets_of(self, task: str) -> list[str]:
        """Names of the prepared data sets that a task needs, in the order of its settings."""
        return list(dict.fromkeys(name for one in self.settings[task] for name in TASKS[task].datasets(one.data)))

    def manifest(self, skipped: Collection[SkippedTask] = ()) -> StudyManifest:
        """The study as data for reporting: results/<name>/study.json. skipped: tasks that planning left out.

        Raises ConfigError where a variant does not fit a model, or no run has the baseline.
        """
        runs = self.runs()
        present = {run.variant for run in runs}
        order = dict.fromkeys([*self.variants, *VARIANTS])  # as written; those of single tasks follow
        variants = [VARIANTS[name] for name in order if name in present]
        if self.baseline not in present:
            names = ", ".join(variant.name for variant in variants)
            raise ConfigError(f"baseline: is {self.baseline}, which is not run in any task; allowed: {names}")
        sections = self.sections()
        return StudyManifest(
            name=self.name,
            description=self.description,
            protocol=self.protocol,
            baseline=self.baseline,
            equivalence_margin=self.equivalence_margin,
            variants=[
                VariantEntry(name=v.name, label=v.name, formula=v.formula, reference=v.reference) for v in variants
            ],
            tasks=[self._task_entry(name) for name in sections],
            runs=[run.entry() for run in runs],
            looks=self.looks,
            weights=self.seeds.shares if isinstance(self.seeds, Looks) else [],
            settings=[
                setting.entry(name, section.protocol or self.protocol)
                for name, section in sections.items()
                for setting in self.settings[name]
            ],
            skipped=list(skipped),
            scaling=self.scaling,
        )

    def _task_entry(self, name: str) -> TaskEntry:
        task = TASKS[name]
        # The metric of a guess, where it is known and the same in all settings.
        chances = {task.chance(setting.data) for setting in self.settings[name]}
        return TaskEntry(
            name=name,
            label=task.label,
            family=task.family,
            metric=task.metric,
            goal=task.goal,
            chance=chances.pop() if len(chances) == 1 else None,
        )


def _check(where: str, kind: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: {unknown(kind, name, known)}")
