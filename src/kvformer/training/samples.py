"""Texts that a trained model writes, for people to read."""

from typing import Any

import torch
from torch import nn

from kvformer.config import RunConfig
from kvformer.models.decoding import generate
from kvformer.seeding import integer_seed
from kvformer.tasks.base import TaskData

SAMPLES = 2
LENGTH = {"characters": 400, "numbers": 60}


def generate_samples(model: nn.Module, run: RunConfig, data: TaskData, device: torch.device) -> list[dict[str, Any]]:
    """Continue the first tokens of the validation split, by sampling at temperature 1."""
    assert data.vocabulary is not None
    tokens = (
        torch.from_numpy(data.splits["validation"]["tokens"][: SAMPLES * 16].astype("int64"))
        .view(SAMPLES, 16)
        .to(device)
    )
    random = torch.Generator().manual_seed(integer_seed(run.task, "samples", run.seed))
    texts = generate(model, tokens, LENGTH[run.task], temperature=1.0, random=random)  # type: ignore[arg-type]
    joint = "" if all(len(symbol) == 1 for symbol in data.vocabulary) else " "

    def text(row: torch.Tensor) -> str:
        return joint.join(data.vocabulary[i] for i in row.tolist())  # type: ignore[index]

    return [{"prompt": text(row[:16]), "text": text(row[16:])} for row in texts]
