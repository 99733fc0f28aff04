"""Batches. Which examples a step sees is a function of the task, the seed and the step alone: equal for all variants,
exact after a resume."""

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
    """Training and evaluation batches of one run. Raises DataError where a split is left without examples."""

    def __init__(self, run: RunConfig, data: TaskData, device: torch.device) -> None:
        self.run, self.data, self.device = run, data, device
        self.size = run.training.batch_size
        self.window = data.shape.length
        self._epoch, self._order, self._train = -1, np.empty(0, np.int64), data.splits["train"]
        self._resident: dict[int, Tensor] = {}
        for split, arrays in data.splits.items():
            size = len(next(iter(arrays.values())))
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
        """Steps in which each training example is seen once (for a stream: as many windows as fit side by side)."""
        arrays = self.data.splits["train"]
        examples = len(arrays["tokens"]) // self.window if self.data.stream else len(next(iter(arrays.values())))
        return max(1, examples // self.size if self.run.training.drop_last else -(-examples // self.size))

    def training(self, step: int) -> Batch:
        """The batch of a training step; augmentation draws from torch's generator."""
        if self.data.stream:
            return self._windows(self._random_starts("train", step), "train")
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        batch = self._take("train", self._train, self._order[place * self.size : (place + 1) * self.size])
        if self.data.augment:
            batch["inputs"] = random_flip_crop(batch["inputs"])
        return batch

    def evaluation(self, split: str, limit: int | None = None) -> Iterator[Batch]:
        """The examples of a split in order, in batches of `evaluation_batch_size`, at most `limit` examples."""
        size = self.run.training.evaluation_batch_size
        if self.data.stream:
            yield from self._stream_evaluation(split, size, limit)
            return
        arrays = self.data.splits[split]
        examples = min(len(next(iter(arrays.values()))), limit or 1 << 62)
        for start in range(0, examples, size):
            yield self._take(split, arrays, np.arange(start, min(start + size, examples)))

    def _start_epoch(self, epoch: int) -> None:
        run = self.run
        if self.data.redraw is not None:
            self._train = self.data.redraw(generator(run.task, "train", "epoch", epoch, run.seed))
            self._resident.clear()
        examples = len(next(iter(self._train.values())))
        self._order = generator(run.task, "order", epoch, run.seed).permutation(examples)
        self._epoch = epoch

    def _random_starts(self, split: str, step: int) -> np.ndarray:
        last = len(self.data.splits[split]["tokens"]) - self.window
        return generator(self.run.task, split, "windows", step, self.run.seed).integers(0, last, self.size)

    def _stream_evaluation(self, split: str, size: int, limit: int | None) -> Iterator[Batch]:
        """A number of batches of random windows, or all windows side by side."""
        if self.data.random_windows is not None:
            for batch in range(self.data.random_windows):
                yield self._windows(self._random_starts(split, -1 - batch), split)
                if limit is not None and (batch + 1) * self.size >= limit:
                    return
            return
        starts = np.arange(0, len(self.data.splits[split]["tokens"]) - self.window, self.window)[:limit]
        for place in range(0, len(starts), size):
            yield self._windows(starts[place : place + size], split)

    def _windows(self, starts: np.ndarray, split: str) -> Batch:
        """Windows of the stream and the same shifted by one: (B, N) inputs and targets."""
        windows = self.data.splits[split]["tokens"][starts[:, None] + np.arange(self.window + 1)]
        tokens = torch.from_numpy(windows.astype(np.int64)).to(self.device)
        return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}

    def _take(self, split: str, arrays: Arrays, rows: np.ndarray) -> Batch:
        """These rows of the arrays as tensors; `inputs` that point into a table are looked up, images are
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
