"""`study.json`: what a study set out to do, so that reports can tell what is missing."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from kvformer.errors import DataError, KvformerError
from kvformer.records.base import FileRecord, Record
from kvformer.records.run import Goal, Primary, Provenance, Summary

Overrides = dict[str, Any]
"""Values of a setting by dotted key: {"training.learning_rate": 0.001}."""


def _without_empty(content: dict[str, Any], *names: str) -> dict[str, Any]:
    """A record's content without those keys of `names` that hold nothing."""
    return {key: value for key, value in content.items() if value or key not in names}


class VariantEntry(Record):
    """A variant of the study, as it is printed."""

    name: str
    label: str = ""
    formula: str = ""
    reference: str = ""


class TaskEntry(Record):
    """A task of the study.

    metric: the quantity without its split (`accuracy`); a run's summary says which split it is judged on. chance: that
    of a guess, None where it is not known or settings differ.
    """

    name: str
    label: str = ""
    family: str = ""
    metric: str
    goal: Goal
    chance: float | None = None


def judged_by(tasks: Iterable[TaskEntry], ends: Iterable[tuple[str, Summary | None]]) -> dict[str, Primary]:
    """The metric of each task, with its split: as its runs say, and on the test split where no run has ended.

    ends: the task of each run and its summary, None where it has not come to an end; the first that says it decides.
    """
    judged = {
        task.name: Primary(metric=task.metric if "/" in task.metric else f"test/{task.metric}", goal=task.goal)
        for task in tasks
    }
    return judged | {task: summary.primary for task, summary in reversed([*ends]) if summary and summary.primary}


class RunEntry(Record):
    """A run that the study expects. overrides: the grid values of its setting. tuned: values that were chosen for its
    variant before, in place of the setting's. path: its folder, relative to the study's."""

    task: str
    setting: str
    variant: str
    seed: int
    overrides: Overrides = Field(default_factory=dict)
    tuned: Overrides = Field(default_factory=dict)
    hash: str
    path: str

    @model_serializer(mode="wrap")
    def _only_if_tuned(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_empty(fields(self), "tuned")


class SettingEntry(Record):
    """The resolved sections of a task at one setting, and the published value of each key in which it departs from the
    published setting.

    In a study of tuning trials: tried_for: the setting in whose place it is tried. tried: the values that are tried.
    """

    task: str
    setting: str
    protocol: str | None = None
    data: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    departures: Overrides = Field(default_factory=dict)
    tried_for: str | None = None
    tried: Overrides | None = None

    @model_serializer(mode="wrap")
    def _only_of_trials(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_empty(fields(self), "tried_for", "tried")


class SkippedTask(Record):
    """A task that planning left out because its data are not available (`on_missing: skip`)."""

    task: str
    reason: str


class StudyManifest(FileRecord):
    """The resolved study as data."""

    name: str
    description: str = ""
    protocol: str
    baseline: str
    equivalence_margin: dict[str, float] = Field(default_factory=dict)
    variants: list[VariantEntry]
    tasks: list[TaskEntry]
    runs: list[RunEntry]
    settings: list[SettingEntry] = Field(default_factory=list)
    skipped: list[SkippedTask] = Field(default_factory=list)


class SharedProvenance(Provenance):
    """What several runs of an exported study say of their origin; start and end span all of them. runs: their paths."""

    runs: list[str] = Field(default_factory=list)


class StudyProvenance(FileRecord):
    """`provenance.json` in the folder of an exported study, which has no run folders."""

    records: list[SharedProvenance] = Field(default_factory=list)


def study_file(results: Path) -> Path:
    """The study's file in its folder results/<name>."""
    return results / "study.json"


def read_manifest(results: Path) -> StudyManifest:
    """The `study.json` of the study's folder `results`.

    Raises:
        KvformerError: the file is missing, is not JSON, or a key of it is missing or has the wrong type.
    """
    path = study_file(results)
    try:
        return StudyManifest.load(path)
    except FileNotFoundError:
        raise KvformerError(f"{path}: no such file; '{results}' is not the results folder of a study") from None
    except DataError as error:
        raise KvformerError(str(error)) from None
