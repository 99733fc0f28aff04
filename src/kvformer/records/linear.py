"""`linear.json` next to the prepared data: which library computes linear maps on each kind of machine."""

from pydantic import Field

from kvformer.records.base import FileRecord, Record

LINEAR = "linear.json"


class LinearChoice(Record):
    """A choice, how many times as long as PyTorch oneDNN took for maps of each size, and when that was measured."""

    library: str
    ratios: dict[str, float] = Field(default_factory=dict)
    time: str | None = None


class LinearChoices(FileRecord):
    """The choices by kind of machine (`training.linear_maps.machine`)."""

    choices: dict[str, LinearChoice] = Field(default_factory=dict)
