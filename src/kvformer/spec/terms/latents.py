"""Keys and values that are expanded from latents."""

import math
from typing import TYPE_CHECKING, Any

from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms.base import Stream
from kvformer.spec.terms.queries_keys import EPSILON
from kvformer.spec.terms.rotary import RotaryApart

if TYPE_CHECKING:
    from torch import Tensor


class Latents(RotaryApart):
    """k^c_j = W_UK·c_j and v_j = W_UV·c_j with a latent c_j = γ∘rms(W_D x_j) of d_c = 2h numbers for all heads.

    S_ij = (q^c_i·k^c_j + R_i q^r_i·R_j k^r_j)/√(h + r), r = h/2, with one k^r for all heads: multi-head latent
    attention (MLA, DeepSeek-AI 2024, arXiv 2405.04434). Stored are c and k^r, rotated: d_c + r numbers. Two latents of
    d_c/2, each with a norm of its own and for half of the heads, are GLA-2 (Zadouri et al. 2025, arXiv 2505.21487).
    """

    def __init__(self, model: ModelConfig, length: int, latents: int) -> None:
        super().__init__(model, length)
        self.latents, self.width = latents, 2 * self.head_dim // latents

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`scale` γ (latents, w), `up_key` and `up_value` (H, h, w), for latents of w numbers."""
        up = (self.heads, self.head_dim, self.width)
        return {"scale": (self.latents, self.width), "up_key": up, "up_value": up}

    def initialise(self, p: Any, scheme: str, stream: Stream) -> None:
        """Ones; and each expansion as a projection of its own."""
        p.scale.fill_(1)
        bound = 1 / math.sqrt(self.width) if scheme == "default" else math.sqrt(6 / (self.width + self.dim))
        for name in ("up_key", "up_value"):
            getattr(p, name).uniform_(-bound, bound, generator=stream(name))

    def values(self, p: Any, values: "Tensor") -> "Tensor":
        """The latents c (B, latents, N, w), normed, in float32 under autocast."""
        import torch
        import torch.nn.functional as F

        wide = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        return (F.rms_norm(wide, (self.width,), eps=EPSILON) * p.scale[:, None, :]).to(values.dtype)

    def read(self, p: Any, keys: "Tensor", values: "Tensor") -> "tuple[Tensor, Tensor]":
        """Keys (B, H, M, h + r) and values (B, H, M, h), expanded by one product per latent."""
        import torch

        weights = torch.cat([p.up_key, p.up_value], dim=1).flatten(0, 1).chunk(self.latents)  # (H/latents·2h, w) each
        heads = [p.linear(latent, weight) for latent, weight in zip(values.unbind(1), weights, strict=True)]
        expanded = heads[0] if self.latents == 1 else torch.cat(heads, dim=-1)
        content, mixed = expanded.unflatten(-1, (self.heads, -1)).transpose(1, 2).chunk(2, dim=-1)
        return self._joined(content, keys), mixed

    def macs(self, queries: int, keys: int) -> int:
        """Both expansions of every key."""
        return 2 * keys * self.dim * self.width
