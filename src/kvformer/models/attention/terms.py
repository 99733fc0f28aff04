"""The learned term on the logits: what sets kv_pos and its controls apart from kv."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kvformer.spec.position_codes import column_code, row_channels
from kvformer.spec.sections import ModelConfig
from kvformer.spec.variants import AttentionSpec

Stream = Callable[[str], torch.Generator]
"""Gives the random generator of a named purpose, so that variants draw equal values for the maps that they share."""


class PositionTerm(nn.Module):
    """The learned term on the logits: gain s and key bias γ_j, or a bias of i - j.

    `pos2d` is the 2D positional term of arXiv 2305.19129: logits S are broadcast to m channels, a fixed code P
    (n x n x m) is added, and a linear map with weight w ∈ R^m and bias b leads back to one channel,
    L_ij = Σ_k w_k (S_ij + P_ijk) + b. P holds row channels (a function of i) and column channels (of j). The row part
    and b add the same to all logits of a row, which the softmax ignores, so exactly the same attention is
    softmax_j(s·S_ij + γ_j) with s = Σ_k w_k and γ_j = Σ_{k column} w_k P_jk. w and b stay the parameters, so training
    behaves as published; b receives a gradient of exactly zero.
    """

    def __init__(self, spec: AttentionSpec, model: ModelConfig, max_length: int) -> None:
        super().__init__()
        self.kind = spec.position
        self.small_init = spec.small_position_init
        self.channels = model.position_channels
        self.code: Tensor
        maps = model.heads if model.position_maps == "head" else 1
        code = column_code(max_length, self.channels)
        if self.kind == "relative":
            self.offsets = nn.Parameter(torch.empty(maps, 2 * max_length - 1))
        else:
            width = code.shape[1] if self.kind == "key_bias" else self.channels
            self.weight = nn.Parameter(torch.empty(maps, width))
        if self.kind == "pos2d":
            self.bias = nn.Parameter(torch.empty(maps))
        if self.kind in ("pos2d", "key_bias"):
            self.register_buffer("code", torch.from_numpy(code), persistent=False)  # (max_length, column channels)

    def initialise(self, scheme: str, stream: Stream) -> None:
        """Draw the map as a linear layer from m channels to one: Xavier, PyTorch's default, or 0.02·N(0,1)."""
        with torch.no_grad():
            if self.kind == "relative":
                self.offsets.zero_()
                return
            bound = 1 / math.sqrt(self.channels) if scheme == "default" else math.sqrt(6 / (self.channels + 1))
            full = torch.empty(self.weight.shape[0], self.channels)
            if self.small_init:
                full.normal_(0, 0.02, generator=stream("weight"))
            else:
                full.uniform_(-bound, bound, generator=stream("weight"))
            self.weight.copy_(full[:, -self.weight.shape[1] :])
            if self.kind == "pos2d":
                self.bias.zero_()

    def gain(self) -> Tensor | None:
        """Factor s on the logits, (maps,); None where the logits are not scaled."""
        return self.weight.sum(dim=1) if self.kind in ("pos2d", "gain") else None

    def key_bias(self, keys: int) -> Tensor | None:
        """γ, (maps, keys); None where there is none."""
        if self.kind not in ("pos2d", "key_bias"):
            return None
        weight = self.weight[:, row_channels(self.channels) :] if self.kind == "pos2d" else self.weight
        gamma = weight @ self.code[:keys].T
        return gamma + 0.0 * self.bias[:, None] if self.kind == "pos2d" else gamma

    def relative_bias(self, queries: int, keys: int, offset: int) -> Tensor | None:
        """r_{i-j}, (maps, queries, keys), with the first query at position `offset`; None where there is none."""
        if self.kind != "relative":
            return None
        rows = torch.arange(offset, offset + queries, device=self.offsets.device)[:, None]
        columns = torch.arange(keys, device=self.offsets.device)[None, :]
        return self.offsets[:, rows - columns + self.offsets.shape[1] // 2]
