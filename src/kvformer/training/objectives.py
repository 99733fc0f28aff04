"""Objectives: the loss of a batch, and what is measured on a split."""

from collections.abc import Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kvformer.config import RunConfig
from kvformer.tasks.base import IGNORED, TaskData
from kvformer.training.batches import Batch


class Objective(Protocol):
    """What is minimised, and what is measured."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch, a scalar with gradient."""

    def measure(self, model: nn.Module, batches: Iterable[Batch], split: str, final: bool) -> dict[str, float]:
        """Metrics of a split by name; `final` asks for the costly ones too. The model is in evaluation mode, without gradients."""

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the model's forward pass takes."""


class Classification:
    """Cross-entropy over the last axis of the logits: labels of images, of list positions, of set elements, or next tokens."""

    def __init__(self, run: RunConfig, data: TaskData) -> None:
        self.smoothing = run.training.label_smoothing

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """The model reads `inputs`."""
        return (batch["inputs"],)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats over the scored positions."""
        logits = model(batch["inputs"])
        return F.cross_entropy(
            logits.flatten(0, -2), batch["targets"].flatten(), ignore_index=IGNORED, label_smoothing=self.smoothing
        )

    def measure(self, model: nn.Module, batches: Iterable[Batch], split: str, final: bool) -> dict[str, float]:
        """Cross-entropy (nats) and accuracy, means over all scored positions of the split."""
        loss = torch.zeros((), dtype=torch.float64)
        correct = scored = 0
        for batch in batches:
            logits, targets = model(batch["inputs"]).flatten(0, -2), batch["targets"].flatten()
            loss += F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum").double().cpu()
            correct += int((logits.argmax(-1) == targets).sum())
            scored += int((targets != IGNORED).sum())
        return {"loss": float(loss) / scored, "accuracy": correct / scored}


OBJECTIVES: dict[str, type[Objective]] = {"classification": Classification}
