"""Texts that a trained model writes, for people to read."""

from typing import Any

import torch
from torch import nn

from kvformer.models.decoding import generate
from kvformer.models.gpt import GPT
from kvformer.seeding import integer_seed
from kvformer.training.batches import Batches
from kvformer.training.objectives import Objective, Translation

SAMPLES = 3
PROMPT = 12
"""Tokens of a prompt."""


def sample_texts(model: nn.Module, objective: Objective, batches: Batches) -> list[dict[str, Any]]:
    """Translations of the first test sentences, or continuations of the first validation tokens at temperature 1;
    empty for a task that writes no text."""
    run, data = batches.run, batches.data
    if isinstance(objective, Translation):
        with torch.no_grad():
            texts = objective.translate(model, next(batches.evaluation("test", SAMPLES)))
        rows = zip(data.sources, texts, data.references["test"], strict=False)
        return [{"prompt": prompt, "text": text, "reference": reference} for prompt, text, reference in rows]
    tokens = run.definition.sample_tokens
    if tokens is None:
        return []
    assert isinstance(model, GPT) and data.vocabulary is not None
    length = min(PROMPT, model.max_length // 2)
    prompts = next(batches.evaluation("validation", SAMPLES))["inputs"][:SAMPLES, :length]
    random = torch.Generator().manual_seed(integer_seed(run.task, "samples", run.seed))
    written = generate(model, prompts, tokens, temperature=1.0, random=random)
    joint = "" if all(len(symbol) == 1 for symbol in data.vocabulary) else " "
    parts = [[data.vocabulary[index] for index in row] for row in written.tolist()]
    return [{"prompt": joint.join(row[:length]), "text": joint.join(row[length:])} for row in parts]
