"""From symbols to vectors, and input positions."""

import math

import torch
from torch import Tensor, nn

from kvformer.models.blocks import Dropout
from kvformer.spec.position_codes import sinusoids
from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms import Stream


class SymbolProjection(nn.Module):
    """A linear map of one-hot vectors, computed as a lookup: (B, N) integers to (B, N, D)."""

    def __init__(self, symbols: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(symbols, dim))
        self.bias = nn.Parameter(torch.empty(dim))

    def initialise(self, scheme: str, stream: Stream) -> None:
        """As a linear layer with `symbols` inputs."""
        bound = 1 / math.sqrt(self.weight.shape[0])
        with torch.no_grad():
            self.weight.uniform_(-bound, bound, generator=stream("weight"))
            self.bias.uniform_(-bound, bound, generator=stream("bias"))

    def forward(self, symbols: Tensor) -> Tensor:
        """Rows of the weight, plus the bias."""
        return nn.functional.embedding(symbols, self.weight) + self.bias


class InputPositions(nn.Module):
    """Adds input positions to (B, N, D): fixed sinusoids, a learned table (N(0, 1) at the start), or nothing where
    attention has positions of its own, or none."""

    def __init__(self, model: ModelConfig, max_length: int) -> None:
        super().__init__()
        self.learned = model.positions == "learned"
        self.added = self.learned or model.positions.startswith("sinusoidal")
        if self.learned:
            self.table = nn.Parameter(torch.empty(max_length, model.dim))
        elif self.added:
            code = sinusoids(max_length, model.dim, halves=model.positions == "sinusoidal_halves")
            self.register_buffer("table", torch.from_numpy(code), persistent=False)

    def initialise(self, scheme: str, stream: Stream) -> None:
        """Draw the learned table."""
        if self.learned:
            with torch.no_grad():
                self.table.normal_(generator=stream("table"))

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x plus the codes of positions offset … offset + N - 1."""
        return x + self.table[offset : offset + x.shape[1]] if self.added else x


class TokenEmbedding(nn.Module):
    """Token embedding with positions and dropout: (B, N) integers to (B, N, D)."""

    def __init__(self, symbols: int, model: ModelConfig, max_length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(symbols, model.dim))
        self.factor = math.sqrt(model.dim) if model.embedding_scale else 1.0
        self.truncated = model.embedding_init == "truncated"
        self.positions = InputPositions(model, max_length)
        self.drop = Dropout(model.embedding_dropout)

    def initialise(self, scheme: str, stream: Stream) -> None:
        """Xavier-uniform where all matrices are; else normal with standard deviation 1 after the scaling by √D.
        Truncated: that normal distribution, cut at two standard deviations."""
        spread = 1 / self.factor
        # 2, PyTorch's default and that of version 1.0, is 2√D standard deviations: it cuts nothing.
        cut = 2 * spread if self.truncated else 2.0
        with torch.no_grad():
            if scheme == "xavier" and not self.truncated:
                nn.init.xavier_uniform_(self.weight, generator=stream("weight"))
            elif self.truncated or self.factor != 1.0:
                nn.init.trunc_normal_(self.weight, std=spread, a=-cut, b=cut, generator=stream("weight"))
            else:
                self.weight.normal_(generator=stream("weight"))

    def forward(self, tokens: Tensor, offset: int = 0) -> Tensor:
        """Embed tokens whose first one is at position `offset`."""
        embedded = nn.functional.embedding(tokens, self.weight)
        return self.drop(self.positions(embedded * self.factor if self.factor != 1.0 else embedded, offset))
