"""Texts that a trained model writes, for people to read."""

from itertools import islice
from typing import Any

import torch
from torch import nn

from kvformer.config.run import RunConfig
from kvformer.models.decoding import generate
from kvformer.models.gpt import GPT
from kvformer.seeding import integer_seed
from kvformer.training.batches import Batches
from kvformer.training.objectives import Objective, Translation

SAMPLES = 3
PROMPT = 12
LENGTHS = {"characters": 400, "numbers": 60}
"""Tokens of a sample, prompt included."""


def generate_samples(model: nn.Module, run: RunConfig, objective: Objective, batches: Batches) -> list[dict[str, Any]]:
    """Translations of the first test sentences, or continuations of the first validation tokens (temperature 1)."""
    data = batches.data
    if isinstance(objective, Translation):
        batch = next(batches.evaluation("test", SAMPLES))
        with torch.no_grad():
            texts = objective.translate(model, batch)
        rows = zip(data.sources, texts, data.references["test"], strict=False)
        return [{"prompt": prompt, "text": text, "reference": reference} for prompt, text, reference in rows]
    assert isinstance(model, GPT) and data.vocabulary is not None
    vocabulary = data.vocabulary
    length = min(PROMPT, model.max_length // 2)
    prompts = torch.cat([batch["inputs"] for batch in islice(batches.evaluation("validation", SAMPLES), 1)])
    random = torch.Generator().manual_seed(integer_seed(run.task, "samples", run.seed))
    written = generate(model, prompts[:SAMPLES, :length], LENGTHS.get(run.task, 100), temperature=1.0, random=random)
    joint = "" if all(len(symbol) == 1 for symbol in vocabulary) else " "
    parts = [[vocabulary[index] for index in row] for row in written.tolist()]
    return [{"prompt": joint.join(row[:length]), "text": joint.join(row[length:])} for row in parts]
