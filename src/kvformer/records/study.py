"""`study.json`: what a study set out to do, so that reports can tell what is missing."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from kvformer.errors import DataError, KvformerError
from kvformer.records.base import FileRecord, Record
from kvformer.records.run import Goal, Primary, Summary

Overrides = dict[str, Any]
"""Values of a setting by dotted key: {"training.learning_rate": 0.001}."""


def _empty(value: Any) -> bool:
    return not value


class VariantEntry(Record):
    """A variant of the study, as it is printed."""

    name: str
    label: str = ""
    formula: str = ""
    reference: str = ""


class TaskEntry(Record):
    """A task of the study.

    metric: the quantity without its split (`accuracy`); a run's summary says which split it is judged on. chance: that
    of a guess, None where it is not known or settings differ. nuisance: only in files of version 1: keys of the grid
    that were tuned on the runs that were reported.
    """

    name: str
    label: str = ""
    family: str = ""
    metric: str
    goal: Goal
    chance: float | None = None
    nuisance: list[str] | None = Field(None, exclude=True)


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
    tuned: Overrides = Field(default_factory=dict, exclude_if=_empty)
    hash: str
    path: str


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
    tried_for: str | None = Field(None, exclude_if=_empty)
    tried: Overrides | None = Field(None, exclude_if=_empty)


class SkippedTask(Record):
    """A task that planning left out because its data are not available (`on_missing: skip`)."""

    task: str
    reason: str


class OpenComparison(Record):
    """A variant that is compared with the baseline on a task."""

    task: str
    variant: str


class LookRecord(FileRecord):
    """`looks/look<k>.json`: what look k (from 1) found after `seeds` seeds.

    time: when it was taken, ISO 8601, UTC. previous: the time of the look before it; a file whose `previous` is another
    time is left over from an earlier state. open: the comparisons that were not decided. They, and the baseline of
    their tasks, get the seeds of the next look.
    """

    look: int
    seeds: int
    time: str
    previous: str | None = None
    open: list[OpenComparison] = Field(default_factory=list)


class StudyManifest(FileRecord):
    """The resolved study as data.

    runs: with looks, all that the last look may need; `asked` says which of them are asked for. looks: seeds at each
    look, none where the seeds are fixed. weights: the share of the permitted error that each look may spend. scaling:
    the task whose losses a scaling law is fitted to.
    """

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
    looks: list[int] = Field(default_factory=list)
    weights: list[float] = Field(default_factory=list)
    scaling: str | None = Field(None, exclude_if=_empty)

    @property
    def sections(self) -> dict[tuple[str, str], SettingEntry]:
        """The resolved sections by task and setting; empty in studies that do not list them."""
        return {(entry.task, entry.setting): entry for entry in self.settings}

    def asked(self, taken: Sequence[LookRecord], at_most: bool = False) -> list[RunEntry]:
        """The runs that are asked for once the looks `taken` (the first ones, in their order) have been taken.

        at_most: all that may be asked for yet, if nothing more is decided before the last look.
        """
        if not self.looks or (at_most and not taken):
            return self.runs
        wanted: dict[tuple[str, str], int] = defaultdict(lambda: self.looks[0])
        for record, seeds in zip(taken, self.looks[1:], strict=False):
            for entry in record.open:
                wanted[entry.task, entry.variant] = wanted[entry.task, self.baseline] = seeds
        if at_most and len(taken) < len(self.looks):
            wanted.update({cell: self.looks[-1] for cell, seeds in wanted.items() if seeds == self.looks[len(taken)]})
        return [run for run in self.runs if run.seed < wanted[run.task, run.variant]]


class StudyStart(FileRecord):
    """`logs/start.json`: when the study was last started (ISO 8601, UTC), how often a job of it is tried, and the tasks
    that planning left out."""

    time: str
    attempts: int
    skipped: list[SkippedTask] = Field(default_factory=list)


def study_file(results: Path) -> Path:
    """The study's file in its folder results/<name>."""
    return results / "study.json"


def start_file(results: Path) -> Path:
    """The record of the last start in the study's folder."""
    return results / "logs" / "start.json"


def look_file(results: Path, look: int) -> Path:
    """The record of a look (from 1) in the study's folder."""
    return results / "looks" / f"look{look}.json"


def looks_taken(results: Path, plan: StudyManifest | None = None) -> list[LookRecord]:
    """The looks that have been taken, in their order; none where the seeds are fixed.

    A record that is missing, damaged, or left over from an earlier state of the study ends the list.

    plan: what `read_plan` returns, where it was read already. Raises KvformerError as it does.
    """
    taken: list[LookRecord] = []
    for look, seeds in enumerate((plan or read_plan(results)).looks, start=1):
        record = LookRecord.read(look_file(results, look))
        if record is None or record.seeds != seeds or record.previous != (taken[-1].time if taken else None):
            break
        taken.append(record)
    return taken


def read_manifest(results: Path) -> StudyManifest:
    """The study in the folder `results`, with the runs that are asked for so far. Raises as `read_plan`."""
    plan = read_plan(results)
    return plan.model_copy(update={"runs": plan.asked(looks_taken(results, plan))})


def read_plan(results: Path) -> StudyManifest:
    """The `study.json` of the study's folder `results` as it is: with looks, its runs are all that may be asked for.

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
