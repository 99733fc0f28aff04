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

    def take_over(self, other: "Batches") -> None:
        """Move what training reads into the memory of batches of the same sizes: a recorded step reads it there."""
        arrays, others = ([*each._train.values(), *each.data.tables.values()] for each in (self, other))
        for array, old in zip(arrays, others, strict=True):
            if (kept := other._resident.get(id(old))) is not None:
                self._resident[id(array)] = kept.copy_(_tensor(array))
        if self.data.normalisation is not None:
            self._mean, self._std = other._mean.copy_(self._mean), other._std.copy_(self._std)

    @property
    def resident(self) -> bool:
        """Whether all training arrays are kept on the device, so that rows of them can be gathered there."""
        arrays = [*self._train.values(), *self.data.tables.values()]
        return all(array.nbytes <= DEVICE_LIMIT for array in arrays)

    @property
    def full_size(self) -> int:
        """Examples of a complete batch."""
        return self.size if self.data.stream else min(self.size, _examples(self._train))

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each training example is seen once; in a stream, examples are consecutive windows."""
        examples = _examples(self.data.splits["train"]) // (self.window if self.data.stream else 1)
        return max(1, examples // self.size if self.run.training.drop_last else -(-examples // self.size))

    def training(self, step: int) -> Batch:
        """The batch of a training step; augmentation draws from torch's generator."""
        return self.gather(self.rows(step))

    def rows(self, step: int) -> np.ndarray:
        """The examples of a training step, (B,): rows of the training arrays, or places in a stream where windows
        begin."""
        if self.data.stream:
            return self._random_starts("train", step)
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        return self._order[place * self.size : (place + 1) * self.size]

    def plan(self, first: int, most: int) -> np.ndarray:
        """The rows of the step `first` and of at most `most` - 1 steps after it, (steps, B): as many as have batches of
        one size and the same training arrays."""
        rows = [self.rows(first)]
        for step in range(first + 1, first + most):
            if self.data.redraw is not None and step % self.steps_per_epoch == 0:
                break
            following = self.rows(step)
            if len(following) != len(rows[0]):
                break
            rows.append(following)
        return np.stack(rows)

    def gather(self, rows: np.ndarray | Tensor) -> Batch:
        """The training batch of these rows. Where they are a tensor, arrays are read on its device; nothing else is."""
        if self.data.stream:
            return self._windows("train", rows)
        batch = self._take("train", self._train, rows)
        if self.data.augment:
            batch["inputs"] = random_flip_crop(batch["inputs"])
        return batch

    def evaluation(self, split: str, limit: int | None = None) -> Iterator[Batch]:
        """The examples of a split in order, in batches of `evaluation_batch_size`, at most `limit` examples.

        Where evaluation reads a sample of a stream, all its batches of random windows instead, always the same ones.
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
            for batch in range(self.data.random_windows):
                yield self._windows(split, self._random_starts(split, -1 - batch))

    def _start_epoch(self, epoch: int) -> None:
        run = self.run
        if self.data.redraw is not None:
            new = self.data.redraw(generator(run.task, "train", "epoch", epoch, run.seed))
            for name, array in new.items():
                if (kept := self._resident.pop(id(self._train[name]), None)) is not None:
                    self._resident[id(array)] = kept.copy_(_tensor(array))  # a recorded step reads this tensor
            self._train = new
        self._order = generator(run.task, "order", epoch, run.seed).permutation(_examples(self._train))
        self._epoch = epoch

    def _random_starts(self, split: str, step: int) -> np.ndarray:
        last = _examples(self.data.splits[split]) - self.window
        return generator(self.run.task, split, "windows", step, self.run.seed).integers(0, last, self.size)

    def _windows(self, split: str, starts: np.ndarray | Tensor) -> Batch:
        """Windows of the stream and the same windows shifted by one: (B, N) inputs and targets."""
        stream = self.data.splits[split]["tokens"]
        if isinstance(starts, Tensor):
            places = starts[:, None] + torch.arange(self.window + 1, device=starts.device)
            tokens = self._kept(stream)[places].long()
        else:
            windows = stream[starts[:, None] + np.arange(self.window + 1)]
            tokens = torch.from_numpy(windows.astype(np.int64)).to(self.device)
        return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}

    def _take(self, split: str, arrays: Arrays, rows: np.ndarray | Tensor) -> Batch:
        """These rows of the arrays as tensors. `inputs` that point into a table are looked up, images are
        normalised."""
        batch = {}
        for name, array in arrays.items():
            chosen = self._rows(array, rows)
            if name == "inputs" and split in self.data.tables:
                places = chosen if isinstance(rows, Tensor) else chosen.cpu().numpy()
                chosen = self._rows(self.data.tables[split], places)
            elif name == "inputs" and self.data.normalisation is not None:
                chosen = normalise(chosen, self._mean, self._std)
                if self.data.resize is not None:
                    chosen = resize(chosen, self.data.resize)
            elif not chosen.is_floating_point():
                chosen = chosen.long()
            batch[name] = chosen
        return batch

    def _rows(self, array: np.ndarray, rows: np.ndarray | Tensor) -> Tensor:
        if isinstance(rows, Tensor):
            return self._kept(array)[rows]
        if self.device.type == "cpu" or array.nbytes > DEVICE_LIMIT:
            return torch.from_numpy(np.ascontiguousarray(array[rows])).to(self.device)
        return self._kept(array)[torch.from_numpy(rows).to(self.device)]

    def _kept(self, array: np.ndarray) -> Tensor:
        """The array as a tensor on the device, where it stays."""
        key = id(array)
        if key not in self._resident:
            self._resident[key] = _tensor(array).to(self.device)
        return self._resident[key]


def _tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor of a type that GPUs index: signed integers."""
    return torch.from_numpy(array.astype(np.int32) if array.dtype == np.uint16 else np.array(array))


def _examples(arrays: Arrays) -> int:
    """Examples of a split; tokens of a stream."""
    return len(next(iter(arrays.values())))
