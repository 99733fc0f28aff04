"""`study.json`: what a study set out to do, so that reports can tell what is missing."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kvformer.analysis.quantities import quantity
from kvformer.data.datasets import DATASETS, find_dataset
from kvformer.errors import KvformerError
from kvformer.files import read_json

REQUIRED = {"name", "protocol", "baseline", "variants", "tasks", "runs"}
ALL_SETTINGS = "all"
"""Name of the pseudo-setting in which the settings of a task's grid are averaged."""


@dataclass(frozen=True)
class Study:
    """The content of a `study.json` with the look-ups that reports need."""

    content: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the study and of its folder."""
        return str(self.content["name"])

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with."""
        return str(self.content["baseline"])

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The runs that the study expects, in its order."""
        return list(self.content["runs"])

    @cached_property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """The tasks by name, in the study's order."""
        return {task["name"]: task for task in self.content["tasks"]}

    @cached_property
    def variants(self) -> list[str]:
        """Names of the variants, the baseline first, then in the study's order."""
        names = [variant["name"] for variant in self.content["variants"]]
        return sorted(names, key=lambda name: name != self.baseline)

    @cached_property
    def overrides(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The grid values of each (task, setting)."""
        return {(run["task"], run["setting"]): run.get("overrides", {}) for run in self.runs}

    @cached_property
    def configurations(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Protocol and values by dotted key of each (task, setting): all if study.json lists them, else the grid's."""
        known = {cell: {"protocol": self.content["protocol"], **values} for cell, values in self.overrides.items()}
        for cell, entry in self.sections.items():
            sections = {name: entry[name] for name in ("data", "model", "training") if name in entry}
            known[cell] = {f"{part}.{key}": value for part, values in sections.items() for key, value in values.items()}
            known[cell]["protocol"] = entry.get("protocol", self.content["protocol"])
        return known

    @cached_property
    def sections(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What study.json lists of each (task, setting): its protocol, sections and departures; {} if it lists none."""
        return {(entry["task"], entry["setting"]): entry for entry in self.content.get("settings", ())}

    def departures(self, task: str, setting: str) -> dict[str, Any]:
        """The keys in which a setting is not the published one of its task, each with the published value."""
        return dict(self.sections.get((task, setting), {}).get("departures", {}))

    def settings(self, task: str) -> list[str]:
        """Settings of a task, in the study's order."""
        return [setting for name, setting in self.overrides if name == task]

    def label(self, task: str) -> str:
        """A task's name in print; a task that is called after its data set is called after the one that it read."""
        label = str(self.tasks[task].get("label") or task)
        if all(label != dataset.label for dataset in DATASETS.values()):
            return label
        read = [entry.get("data", {}).get("dataset") for (name, _), entry in self.sections.items() if name == task]
        return ", ".join(dict.fromkeys(find_dataset(name).label for name in read if name)) or label

    def nuisance(self, task: str) -> list[str]:
        """Grid keys of a task that are tuned for each variant."""
        return list(self.tasks[task].get("nuisance") or [])

    def margin(self, metric: str) -> float | None:
        """Differences of `metric` inside ± this margin count as equivalent; None where the study fixed no margin."""
        margin = self.content.get("equivalence_margin", {}).get(quantity(metric).name)
        return None if margin is None else float(margin)


def read_study(results: Path) -> Study:
    """Read `results/study.json`.

    Raises:
        KvformerError: the file is absent, is not JSON, or lacks a key.
    """
    path = results / "study.json"
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise KvformerError(f"{path}: no such file; '{results}' is not the results folder of a study") from None
    except (OSError, ValueError) as error:
        raise KvformerError(f"{path}: not readable as JSON ({error})") from None
    lacking = REQUIRED - set(content if isinstance(content, dict) else ())
    if lacking:
        raise KvformerError(f"{path}: lacks {', '.join(sorted(lacking))}")
    return Study(content)
