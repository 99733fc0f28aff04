"""Batches. The examples of a step depend on the task, the seed and the step alone: they are equal for all variants, and
a resumed run sees the same ones."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from kvformer.config.run import RunConfig
from kvformer.errors import DataError
from kvformer.seeding import generator
from kvformer.tasks.base import Arrays, TaskData
from kvformer.training.images import normalise, random_flip_crop, resize

Batch = dict[str, Tensor]
DEVICE_LIMIT = 4 << 30
"""Arrays up to this many bytes are kept on a GPU; larger ones stay memory-mapped."""


class Batches:
    """Training and evaluation batches of one run.

    Raises:
        DataError: a split has no examples.
    """

    def __init__(self, run: RunConfig, data: TaskData, device: torch.device) -> None:
        self.run, self.data, self.device = run, data, device
        self.size = run.training.batch_size
        self.window = data.shape.length
        self._epoch, self._order, self._train = -1, np.empty(0, np.int64), data.splits["train"]
        self._resident: dict[int, Tensor] = {}
        for split, arrays in data.splits.items():
            size = _examples(arrays)
            if data.stream and size <= self.window:
                raise DataError(
                    f"{run.task}: data.context {self.window} is too long for the {split} split; allowed: below {size}"
                )
            if not size:
                raise DataError(f"{run.task}: these data settings leave no examples in the {split} split: {run.data}")
        if data.normalisation is not None:
            self._mean, self._std = (torch.tensor(values, device=device) for values in data.normalisation)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each training example is seen once; in a stream, examples are consecutive windows."""
        examples = _examples(self.data.splits["train"]) // (self.window if self.data.stream else 1)
        return max(1, examples // self.size if self.run.training.drop_last else -(-examples // self.size))

    def training(self, step: int) -> Batch:
        """The batch of a training step; augmentation draws from torch's generator."""
        if self.data.stream:
            return self._windows("train", self._random_starts("train", step))
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        batch = self._take("train", self._train, self._order[place * self.size : (place + 1) * self.size])
        if self.data.augment:
            batch["inputs"] = random_flip_crop(batch["inputs"])
        return batch

    def evaluation(self, split: str, limit: int | None = None) -> Iterator[Batch]:
        """The examples of a split in order, in batches of `evaluation_batch_size`, at most `limit` examples.

        Where evaluation reads a sample of a stream, it is batches of random windows instead, always the same ones.
        """
        size, arrays = self.run.training.evaluation_batch_size, self.data.splits[split]
        if not self.data.stream:
            examples = min(_examples(arrays), limit or 1 << 62)
            for start in range(0, examples, size):
                yield self._take(split, arrays, np.arange(start, min(start + size, examples)))
        elif self.data.random_windows is None:
            starts = np.arange(0, _examples(arrays) - self.window, self.window)[:limit]
            for place in range(0, len(starts), size):
                yield self._windows(split, starts[place : place + size])
        else:
            batches = self.data.random_windows
            for batch in range(batches if limit is None else min(batches, -(-limit // self.size))):
                yield self._windows(split, self._random_starts(split, -1 - batch))

    def _start_epoch(self, epoch: int) -> None:
        run = self.run
        if self.data.redraw is not None:
            self._train = self.data.redraw(generator(run.task, "train", "epoch", epoch, run.seed))
            self._resident.clear()
        self._order = generator(run.task, "order", epoch, run.seed).permutation(_examples(self._train))
        self._epoch = epoch

    def _random_starts(self, split: str, step: int) -> np.ndarray:
        last = _examples(self.data.splits[split]) - self.window
        return generator(self.run.task, split, "windows", step, self.run.seed).integers(0, last, self.size)

    def _windows(self, split: str, starts: np.ndarray) -> Batch:
        """Windows of the stream and the same windows shifted by one: (B, N) inputs and targets."""
        windows = self.data.splits[split]["tokens"][starts[:, None] + np.arange(self.window + 1)]
        tokens = torch.from_numpy(windows.astype(np.int64)).to(self.device)
        return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}

    def _take(self, split: str, arrays: Arrays, rows: np.ndarray) -> Batch:
        """These rows of the arrays as tensors. `inputs` that point into a table are looked up, images are
        normalised."""
        batch = {}
        for name, array in arrays.items():
            chosen = self._rows(array, rows)
            if name == "inputs" and split in self.data.tables:
                chosen = self._rows(self.data.tables[split], chosen.cpu().numpy())
            elif name == "inputs" and self.data.normalisation is not None:
                chosen = normalise(chosen, self._mean, self._std)
                if self.data.resize is not None:
                    chosen = resize(chosen, self.data.resize)
            elif not chosen.is_floating_point():
                chosen = chosen.long()
            batch[name] = chosen
        return batch

    def _rows(self, array: np.ndarray, rows: np.ndarray) -> Tensor:
        if self.device.type == "cpu" or array.nbytes > DEVICE_LIMIT:
            return torch.from_numpy(np.ascontiguousarray(array[rows])).to(self.device)
        key = id(array)
        if key not in self._resident:
            self._resident[key] = torch.from_numpy(np.array(array)).to(self.device)
        return self._resident[key][torch.from_numpy(rows).to(self.device)]


def _examples(arrays: Arrays) -> int:
    """Examples of a split; tokens of a stream."""
    return len(next(iter(arrays.values())))
