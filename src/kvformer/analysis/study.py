"""A study's manifest with the look-ups that analysis and reports share."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kvformer.analysis.quantities import quantity
from kvformer.data.datasets import DATASETS, find_dataset
from kvformer.records.study import RunEntry, SettingEntry, StudyManifest, TaskEntry, read_manifest

ALL_SETTINGS = "all"
"""Name of the pseudo-setting in which the settings of a task's grid are averaged."""


@dataclass(frozen=True)
class Study:
    """The content of a `study.json` with the look-ups that reports need."""

    manifest: StudyManifest

    @property
    def name(self) -> str:
        """Name of the study and of its folder."""
        return self.manifest.name

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with."""
        return self.manifest.baseline

    @property
    def runs(self) -> list[RunEntry]:
        """The runs that the study expects, in its order."""
        return self.manifest.runs

    @cached_property
    def tasks(self) -> dict[str, TaskEntry]:
        """The tasks by name, in the study's order."""
        return {task.name: task for task in self.manifest.tasks}

    @cached_property
    def families(self) -> dict[str, list[str]]:
        """The names of the tasks of each family, in the study's order."""
        families: dict[str, list[str]] = {}
        for task in self.manifest.tasks:
            families.setdefault(task.family, []).append(task.name)
        return families

    @cached_property
    def labels(self) -> dict[str, str]:
        """The printed name of each variant: the baseline first, then in the study's order."""
        variants = sorted(self.manifest.variants, key=lambda variant: variant.name != self.baseline)
        return {variant.name: variant.label or variant.name for variant in variants}

    @property
    def variants(self) -> list[str]:
        """Names of the variants, the baseline first, then in the study's order."""
        return list(self.labels)

    @cached_property
    def overrides(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The grid values of each (task, setting)."""
        return {(run.task, run.setting): run.overrides for run in self.runs}

    @cached_property
    def configurations(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Protocol and values by dotted key of each (task, setting): all if study.json lists them, else the grid's."""
        known = {key: {"protocol": self.manifest.protocol, **values} for key, values in self.overrides.items()}
        for key, entry in self.sections.items():
            sections = {"data": entry.data, "model": entry.model, "training": entry.training}
            known[key] = {f"{name}.{k}": value for name, part in sections.items() for k, value in (part or {}).items()}
            known[key]["protocol"] = entry.protocol or self.manifest.protocol
        return known

    @cached_property
    def sections(self) -> dict[tuple[str, str], SettingEntry]:
        """What study.json lists of each (task, setting): its protocol, sections and departures; {} if it lists none."""
        return self.manifest.sections

    @cached_property
    def tuned(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """The values by dotted key at which a variant was trained in place of its setting's, by (task, setting,
        variant)."""
        return {(run.task, run.setting, run.variant): run.tuned for run in self.runs if run.tuned}

    def settings(self, task: str) -> list[str]:
        """Settings of a task, in the study's order."""
        return [setting for name, setting in self.overrides if name == task]

    def label(self, task: str) -> str:
        """The printed name of a task. One that has the name of a data set is printed with the name of the data set that
        it read."""
        label = self.tasks[task].label or task
        if all(label != dataset.label for dataset in DATASETS.values()):
            return label
        read = [(entry.data or {}).get("dataset") for (name, _), entry in self.sections.items() if name == task]
        return ", ".join(dict.fromkeys(find_dataset(name).label for name in read if name)) or label

    def margin(self, metric: str) -> float | None:
        """Differences of `metric` inside ± this margin count as equivalent; None where the study fixed no margin."""
        return self.manifest.equivalence_margin.get(quantity(metric).name)


def read_study(results: Path) -> Study:
    """Read `results/study.json`.

    Raises:
        KvformerError: the file is missing, is not JSON, or a key of it is missing or has the wrong type.
    """
    return Study(read_manifest(results))
