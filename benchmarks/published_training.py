"""How the published code makes batches and takes training steps: a Dataset of single examples, a DataLoader,
torchvision's transforms image by image, and PyTorch's optimisers with their default settings."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.published import build, translation_loss
from kvformer.config.run import RunConfig
from kvformer.data.tokens import PADDING
from kvformer.tasks.base import TaskData
from kvformer.training.schedules import first_beta, learning_rate


class Lists(Dataset):
    """Lists and their labels, one at a time."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.inputs, self.targets = (torch.from_numpy(np.array(arrays[key])).long() for key in ("inputs", "targets"))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.targets[index]


class Images(Dataset):
    """Images, transformed one at a time as in torchvision's data sets."""

    def __init__(self, arrays: dict[str, np.ndarray], transform: Any) -> None:
        self.images, self.labels, self.transform = arrays["inputs"], arrays["targets"], transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Sentences(Dataset):
    """Pairs of sentences without padding.

    The published code also splits the raw text in every epoch; this one does not.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.pairs = [
            tuple(torch.from_numpy(side[side != PADDING]).long() for side in pair)
            for pair in zip(arrays["source"], arrays["target"], strict=True)
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pairs[index]

    @staticmethod
    def collate(pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Pad both sides."""
        return [pad_sequence(side, batch_first=True, padding_value=PADDING) for side in zip(*pairs, strict=True)]


def image_transform(run: RunConfig, mean: tuple[float, ...], std: tuple[float, ...]) -> transforms.Compose:
    """The published transforms of a vision task."""
    augmentation = [
        transforms.RandomHorizontalFlip(),
        transforms.RandomResizedCrop((32, 32), scale=(0.8, 1.0), ratio=(0.9, 1.1)),
    ]
    kept = augmentation if run.data.augment == "flip_crop" else []
    return transforms.Compose([*kept, transforms.ToTensor(), transforms.Normalize(mean, std)])


def batches(run: RunConfig, data: TaskData) -> Iterator[Any]:
    """Endless batches, drawn as in the published scripts."""
    size, arrays = run.training.batch_size, data.splits["train"]
    if data.stream:
        text = torch.from_numpy(np.array(arrays["tokens"])).long()
        while True:
            starts = torch.randint(len(text) - data.shape.length, (size,))
            yield (
                torch.stack([text[i : i + data.shape.length] for i in starts]),
                torch.stack([text[i + 1 : i + data.shape.length + 1] for i in starts]),
            )
    if data.normalisation is not None:
        dataset: Dataset = Images(arrays, image_transform(run, *data.normalisation))
    else:
        dataset = Sentences(arrays) if "source" in arrays else Lists(arrays)
    collate = Sentences.collate if isinstance(dataset, Sentences) else None
    loader = DataLoader(dataset, size, shuffle=True, drop_last=run.training.drop_last, collate_fn=collate)
    while True:
        yield from loader


class PublishedTraining:
    """The published formulation of one run, ready to take training steps."""

    def __init__(self, run: RunConfig, data: TaskData, device: torch.device | None = None) -> None:
        self.run, self.device = run, device or torch.device("cpu")
        self.model = build(run, data.shape).to(self.device)
        training = run.training
        kind = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = kind(
            self.model.parameters(),
            lr=training.learning_rate,
            betas=training.betas,
            eps=training.epsilon,
            weight_decay=training.weight_decay,
        )
        self.batches = batches(run, data)
        self.count = 0

    def loss(self, batch: Any) -> Tensor:
        """Mean loss of a batch."""
        inputs, targets = (part.to(self.device) for part in batch)
        if self.run.definition.architecture == "seq2seq":
            return translation_loss(
                self.model(inputs, targets[:, :-1]), targets[:, 1:], self.run.training.label_smoothing
            )
        logits = self.model(inputs)
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten())

    def step(self) -> None:
        """One training step, including its batch."""
        self.learn(next(self.batches))

    def learn(self, batch: Any) -> None:
        """One training step with this batch."""
        run = self.run
        steps = 10_000
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.count, steps, run.training, run.model)
            group["betas"] = (first_beta(self.count, steps, run.training), run.training.betas[1])
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        if run.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), run.training.clip_norm)
        self.optimizer.step()
        self.count += 1
