"""`metrics.jsonl`: the points of a run's curves, one JSON object per line."""

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kvformer.errors import DataError
from kvformer.files import read_jsonl


class MetricPoint(NamedTuple):
    """One value of a curve.

    key: `<split>/<quantity>`, such as `validation/accuracy` or `diagnostics/layer0/gain`. elapsed: seconds of
    optimisation steps so far. time: Unix time in milliseconds. Two runs of one configuration on one machine differ in
    elapsed and time alone.
    """

    key: str
    step: int
    value: float
    epoch: float | None = None
    elapsed: float | None = None
    time: int | None = None

    def line(self) -> str:
        """The line of a metrics file; a non-finite value is written as text (`nan`, `inf`)."""
        point = {
            "step": self.step,
            "epoch": self.epoch,
            "key": self.key,
            "value": self.value if math.isfinite(self.value) else str(self.value),
            "elapsed": self.elapsed,
            "time": self.time,
        }
        return json.dumps(point) + "\n"


class MetricLog:
    """Appends points to a metrics file. Opening it cuts off everything after `size` bytes: what a resumed run will
    write again."""

    def __init__(self, path: Path, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("r+b" if path.exists() else "w+b")
        self._stream.truncate(size)
        self._stream.seek(size)

    def write(self, step: int, epoch: float, elapsed: float, values: dict[str, float]) -> None:
        """Append one line per value, in the given order."""
        now = time.time_ns() // 1_000_000
        for key, value in values.items():
            point = MetricPoint(key, step, value, round(epoch, 6), round(elapsed, 4), now)
            self._stream.write(point.line().encode())
        self._stream.flush()

    def sync(self) -> int:
        """Force the points to the disk and return the size of the file in bytes."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self._stream.tell()

    def close(self) -> None:
        """Force the points to the disk and close the file."""
        self.sync()
        self._stream.close()


def read_metrics(path: Path) -> Iterator[MetricPoint]:
    """The points of a metrics file in the order of writing; a torn last line (a writer was killed) is left out.

    Raises:
        DataError: a line is not a point, or the file cannot be read; the points before it have been returned.
    """
    number = 1
    try:
        for line in read_jsonl(path):
            yield MetricPoint(
                line["key"],
                int(line["step"]),
                float(line["value"]),
                line.get("epoch"),
                line.get("elapsed"),
                line.get("time"),
            )
            number += 1
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: line {number} is not a point ({type(error).__name__}: {error})") from None
