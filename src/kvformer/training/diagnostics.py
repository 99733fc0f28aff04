"""What attention does: maps of a few fixed examples, and scores of such maps during training."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from kvformer.models.attention import Attention
from kvformer.training.batches import Batches
from kvformer.training.objectives import Objective

MAP_EXAMPLES = 2
SCORE_EXAMPLES = 16


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Attention]]:
    """Within this context the model is in evaluation mode, no gradients are computed, and every self-attention layer
    records its logits and weights, (B, H, N, N)."""
    layers = [module for module in model.modules() if isinstance(module, Attention) and not module.cross]
    was_training = model.training
    model.eval()
    try:
        for layer in layers:
            layer.recording = []
        with torch.no_grad():
            yield layers
    finally:
        for layer in layers:
            layer.recording = None
        model.train(was_training)


def _first_examples(batches: Batches, objective: Objective, split: str, examples: int) -> tuple[Tensor, ...]:
    batch = next(batches.evaluation(split, examples))
    return objective.inputs({name: tensor[:examples] for name, tensor in batch.items()})


def attention_maps(model: nn.Module, objective: Objective, batches: Batches) -> dict[str, np.ndarray]:
    """`inputs` (items, …), and `logits` and `weights` (items, layers, heads, N, N) of the first examples of the
    reported split.

    Logits are those that enter the softmax, with -inf where they are masked. An encoder-decoder gives its encoder's
    maps.
    """
    inputs = _first_examples(batches, objective, batches.data.reported_split, MAP_EXAMPLES)
    with recorded(model) as layers:
        model(*inputs)
        size = layers[0].recording[0][0].shape  # type: ignore[index]
        pairs = [layer.recording[0] for layer in layers if layer.recording and layer.recording[0][0].shape == size]
    logits, weights, _ = (torch.stack(part, dim=1).float().cpu().numpy() for part in zip(*pairs, strict=True))
    return {"inputs": inputs[0].cpu().numpy(), "logits": logits, "weights": weights}


def diagnose(model: nn.Module, objective: Objective, batches: Batches) -> dict[str, float]:
    """Scores of each self-attention layer on fixed validation examples, named `layer<i>/<score>`.

    gain: mean factor s on the logits, for variants that have one.
    cosine: mean cos φ of the turn between keys and queries, for variants that have one.
    symmetry: (‖S + Sᵀ‖² - ‖S - Sᵀ‖²) / (‖S + Sᵀ‖² + ‖S - Sᵀ‖²) of the logits S without masks: 1 for symmetric, -1 for
        antisymmetric logits (the score of Saponati et al. 2025, applied to logits).
    entropy: mean entropy of the attention weights of a query, divided by log N: 1 if uniform, 0 if on a single token.
    diagonal: mean weight of a token on itself.
    """
    scores: dict[str, float] = {}
    inputs = _first_examples(batches, objective, "validation", SCORE_EXAMPLES)
    with recorded(model) as layers:
        model(*inputs)
        for index, layer in enumerate(layers):
            for term, p in layer.terms:
                if (gain := term.gain(p)) is not None:
                    scores[f"layer{index}/gain"] = float(gain.mean())
                if (cosine := term.cosine(p)) is not None:
                    scores[f"layer{index}/cosine"] = float(cosine)
            assert layer.recording is not None
            logits, weights = layer.recording[0].unmasked.double(), layer.recording[0].weights.double()
            symmetric = (logits + logits.transpose(-1, -2)).square().sum()
            antisymmetric = (logits - logits.transpose(-1, -2)).square().sum()
            total = float(symmetric + antisymmetric)  # zero for uniform attention, whose logits are all zero
            scores[f"layer{index}/symmetry"] = float((symmetric - antisymmetric) / total) if total else 1.0
            entropy = -(weights * torch.log(weights.clamp_min(1e-12))).sum(dim=-1).mean()
            scores[f"layer{index}/entropy"] = float(entropy) / math.log(max(2, weights.shape[-1]))
            scores[f"layer{index}/diagonal"] = float(weights.diagonal(dim1=-2, dim2=-1).mean())
    return scores
