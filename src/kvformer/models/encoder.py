"""Encoder for lists and sets: labels every position of a list, or scores every element of a set."""

import torch
from torch import Tensor, nn

from kvformer.models.blocks import Dropout, Stack
from kvformer.models.embeddings import InputPositions, SymbolProjection
from kvformer.models.fast.linear import Linear
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import Variant


def _head(model: ModelConfig, outputs: int) -> nn.Module:
    if model.head_kind == "linear":
        return Linear(model.dim, outputs)
    return nn.Sequential(
        Linear(model.dim, model.dim),
        nn.LayerNorm(model.dim),
        nn.ReLU(),
        Dropout(model.head_dropout),
        Linear(model.dim, outputs),
    )


class ListEncoder(nn.Module):
    """Symbols (B, N) to logits (B, N, classes)."""

    def __init__(self, model: ModelConfig, variant: Variant, shape: Shape) -> None:
        super().__init__()
        self.embed = SymbolProjection(shape.inputs, model.dim)
        self.positions = InputPositions(model, shape.length)
        self.drop = Dropout(model.embedding_dropout)
        self.stack = Stack(model, variant, shape.length)
        self.head = _head(model, shape.outputs)

    def forward(self, symbols: Tensor) -> Tensor:
        """Logits of every position."""
        return self.head(self.stack(self.drop(self.positions(self.embed(symbols)))))


class SetEncoder(nn.Module):
    """Features of the elements of a set (B, N, features) to one logit per element (B, N); blind to the order."""

    def __init__(self, model: ModelConfig, variant: Variant, shape: Shape) -> None:
        super().__init__()
        self.drop = Dropout(model.embedding_dropout)
        self.embed = Linear(shape.inputs, model.dim)
        self.stack = Stack(model, variant, shape.length)
        self.head = _head(model, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits over the elements."""
        return torch.squeeze(self.head(self.stack(self.embed(self.drop(features)))), dim=-1)
