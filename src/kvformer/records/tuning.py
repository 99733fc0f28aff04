"""`tuning.json`: what was tried for each variant of a study before the comparison, and what was chosen."""

from pathlib import Path

from pydantic import Field

from kvformer.records.base import FileRecord, Record
from kvformer.records.run import Goal
from kvformer.records.study import Overrides

FOLDER = "tuning"
"""The folder of the trials, in the study's folder: a study of its own."""


class Trial(Record):
    """One combination of values. mean, loss: means of the metric that chooses and of the validation loss over the runs
    that finished, None where none did. runs: how many these are, of `expected`."""

    values: Overrides
    mean: float | None = None
    loss: float | None = None
    runs: int
    expected: int


class TunedCell(Record):
    """The choice for a variant of a task at one setting.

    metric: what the choice is by, with its split (`validation/accuracy`). chosen: the values, by dotted key; empty
    where no trial finished, so that the setting's own values stay. edges: which of them are at an end of their grid, in
    words.
    """

    task: str
    setting: str
    variant: str
    metric: str
    goal: Goal
    chosen: Overrides = Field(default_factory=dict)
    edges: list[str] = Field(default_factory=list)
    trials: list[Trial]


class TuningChoice(FileRecord):
    """The choices of a study. The same choices give the same bytes."""

    cells: list[TunedCell] = Field(default_factory=list)

    def chosen(self) -> dict[tuple[str, str, str], Overrides]:
        """The chosen values by task, setting and variant."""
        return {(cell.task, cell.setting, cell.variant): cell.chosen for cell in self.cells}


def choice_file(results: Path) -> Path:
    """The file of the choices in the study's folder results/<name>."""
    return results / "tuning.json"
