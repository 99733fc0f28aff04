"""Decoder-only language model."""

import torch
from torch import Tensor, nn

from kvformer.models.attention import DecoderCache
from kvformer.models.blocks import Stack
from kvformer.models.embeddings import TokenEmbedding
from kvformer.models.fast.linear import Linear, linear
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.terms import Stream
from kvformer.spec.variants import Variant


class GPT(nn.Module):
    """Tokens (B, N) to logits of the next token (B, N, vocabulary)."""

    def __init__(self, model: ModelConfig, variant: Variant, shape: Shape) -> None:
        super().__init__()
        self.max_length = shape.length
        self.embed = TokenEmbedding(shape.inputs, model, shape.length)
        self.stack = Stack(model, variant, shape.length, causal=True)
        self.head = None if model.tied_output else Linear(model.dim, shape.outputs)
        self.head_bias = nn.Parameter(torch.empty(shape.outputs)) if model.tied_output else None

    def initialise(self, scheme: str, stream: Stream) -> None:
        """A tied output starts with a zero bias."""
        if self.head_bias is not None:
            with torch.no_grad():
                self.head_bias.zero_()

    def forward(self, tokens: Tensor, cache: DecoderCache | None = None) -> Tensor:
        """Logits; with a cache, `tokens` are only those after the cached ones."""
        hidden = self.embed(tokens, cache.length if cache is not None else 0)
        hidden = self.stack(hidden, cache=cache)
        return self.head(hidden) if self.head is not None else linear(hidden, self.embed.weight, self.head_bias)
