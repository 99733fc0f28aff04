"""What a task is: its data, the names of its architecture and objective, and the published settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from kvformer.data.tokens import MOSES, Tokens
from kvformer.records.manifest import Manifest
from kvformer.spec.sections import ModelConfig, Section, TrainingConfig
from kvformer.spec.shapes import Shape

Arrays = dict[str, np.ndarray]
Manifests = Mapping[str, Manifest]
"""Prepared data sets by name."""
Overrides = Mapping[str, Mapping[str, Any]]
"""Values by section and key."""
IGNORED = -100
"""Target value of positions that are not scored (PyTorch's ignore_index)."""


@dataclass(frozen=True)
class TaskData:
    """The arrays of one run.

    splits: train, validation and test; each maps names (`inputs`, `targets`, …) to arrays with the examples along the
        first axis. A `stream` task has one long array `tokens` per split instead, and examples are windows of it.
    tables: per split, an array that the integers of `inputs` point into (the features of set anomaly detection).
    redraw: makes the training arrays of an epoch from that epoch's generator, where each epoch has new examples.
    random_windows: where evaluation reads a sample of a stream, the number of batches of random windows (None: every
        window).
    normalisation: per-channel (mean, std) of images in [0, 1]. resize: side to which images are resized. augment:
        whether training images are flipped and cropped at random.
    vocabulary: the symbols by index, for tasks that generate text (target side in translation).
    references: per split, the sentences that generated ones are compared with. tokens: how these are split and scored.
        sources: the test sentences to translate.
    """

    splits: dict[str, Arrays]
    shape: Shape
    records: list[dict[str, str]]
    stream: bool = False
    random_windows: int | None = None
    tables: Arrays = field(default_factory=dict)
    redraw: Callable[[np.random.Generator], Arrays] | None = None
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    resize: int | None = None
    augment: bool = False
    vocabulary: list[str] | None = None
    references: dict[str, list[str]] = field(default_factory=dict)
    tokens: Tokens = MOSES
    sources: list[str] = field(default_factory=list)

    @property
    def reported_split(self) -> str:
        """The split that results are reported on: test, or validation where a task has no test split."""
        return "test" if "test" in self.splits else "validation"


class PreparedSection(Section):
    """The data section of a task on a prepared data set."""

    dataset: str


class Sections(Protocol):
    """The three sections that a run consists of."""

    @property
    def data(self) -> Any:
        """The task's data section, of the task's own class."""

    @property
    def model(self) -> ModelConfig:
        """The model section."""

    @property
    def training(self) -> TrainingConfig:
        """The training section."""


class TaskRun(Sections, Protocol):
    """The part of a RunConfig that data depend on. The variant is not part of it: paired runs see the same data."""

    @property
    def task(self) -> str:
        """The task's name."""

    @property
    def seed(self) -> int:
        """The seed."""


@dataclass(frozen=True)
class TaskDefinition:
    """A task, as data.

    name, label, summary: its key, the name to print, and one sentence that explains it.
    family: the table in which it is reported. architecture, objective: keys of `models.build` and
        `training.objectives`.
    metric, goal: what it is judged by, and whether more or less of it is better.
    balanced: whether all answers are equally frequent, so that a guess is right with probability 1/outputs.
    data_config: the typed `data` section. defaults: the published settings of the sections `data`, `model`, `training`.
    protocols: what the named protocols change in these sections.
    shape: sizes, from the data section and the manifests of prepared data sets (None before they are prepared).
    load: the arrays of one run.
    no_validation: under a data section, why the validation split must not choose what is reported; None where it may.
    sample_tokens: length of the texts that a trained decoder writes as samples, prompt included (None: it writes none).
    """

    name: str
    label: str
    summary: str
    family: Literal["synthetic", "vision", "language"]
    architecture: Literal["encoder", "vit", "gpt", "seq2seq", "set_encoder"]
    objective: Literal["classification", "translation"]
    metric: str
    goal: Literal["max", "min"]
    data_config: type[Section]
    defaults: Overrides
    shape: Callable[[Any, Manifests | None], Shape]
    load: Callable[[TaskRun, Manifests], TaskData]
    protocols: Mapping[str, Overrides] = field(default_factory=dict)
    no_validation: Callable[[Any], str | None] = lambda data: None
    balanced: bool = False
    sample_tokens: int | None = None

    def datasets(self, data: Section) -> tuple[str, ...]:
        """Names of the prepared data sets that a data section needs."""
        return (data.dataset,) if isinstance(data, PreparedSection) else ()

    def chance(self, data: Section) -> float | None:
        """The accuracy of a guess under a data section, where it is known."""
        return 1 / self.shape(data, None).outputs if self.balanced else None
