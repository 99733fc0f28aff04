"""Terms on queries and keys: norm, turn, offset. They act in the order of `layer_terms`; `rotary` follows.

Pair t of a vector is (x_2t, x_2t+1), read as the complex number z_t = x_2t + i·x_2t+1.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms.base import Stream, Term

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-6


class QKNorm(Term):
    """q ← γ_q∘q/rms(q) and k ← γ_k∘k/rms(k) over the width of a head (Henry et al. 2020, arXiv 2010.04245).

    It acts right after the maps. A scale γ (h,) is shared by the heads; one map for queries and keys has one γ.
    names: `query` and `key`, as far as the layer has a norm of its own for them.
    """

    explanation = "queries and keys have a root mean square of one"

    def __init__(self, model: ModelConfig, length: int, names: Sequence[str]) -> None:
        super().__init__(model, length)
        self.names, self.scaled = names, model.qk_norm == "rms_scale"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`query` and `key` (h,), as far as the layer has them; nothing without scales."""
        return dict.fromkeys(self.names, (self.head_dim,)) if self.scaled else {}

    def initialise(self, p: Any, scheme: str, stream: Stream) -> None:
        """Ones."""
        for name in self.shapes():
            getattr(p, name).fill_(1)

    def queries(self, p: Any, queries: "Tensor", first: int) -> "Tensor":
        """Normed; as keys where one map makes both."""
        return self._normed(queries, p, "query" if "query" in self.names else "key")

    def keys(self, p: Any, keys: "Tensor", first: int, cache: Any = None) -> "Tensor":
        """Normed."""
        return self._normed(keys, p, "key")

    def _normed(self, x: "Tensor", p: Any, name: str) -> "Tensor":
        import torch.nn.functional as F

        return F.rms_norm(x, (self.head_dim,), getattr(p, name) if self.scaled else None, EPSILON)


class Turn(Term):
    """q_i = w∘k_i with a number w for each head and pair: the keys' map makes the queries, turned.

    phase: w = e^{iφ}, S_ij = c·Σ_t [cos φ_t ⟨k_it, k_jt⟩ + sin φ_t (k_it × k_jt)]: the second part is antisymmetric, a
    direction. scale: w = a, real, S_ij = c·Σ_t a_t ⟨k_it, k_jt⟩: symmetric, but indefinite where an a is negative.
    complex: w = a + ib, both. φ is drawn from U(-π, π), and a as cos φ of the same draws, so that `scale` starts as the
    symmetric half of `phase`, and `complex` as `phase`. A vector of any length on either side is absorbed by the map.
    """

    def __init__(self, model: ModelConfig, length: int, kind: Literal["phase", "scale", "complex"]) -> None:
        super().__init__(model, length)
        self.kind = kind
        self.explanation = {
            "phase": "queries are keys, each pair of components turned by a learned angle: a direction for d/2 numbers",
            "scale": "queries are keys, each pair of components times a number that may be negative: symmetric, but a "
            "token need not like itself",
            "complex": "queries are keys, each pair of components scaled and turned",
        }[kind]
        self.keeps_symmetry = kind == "scale"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`angle` or `scale` (H, P), or `factor` (H, P, 2)."""
        pairs = (self.heads, self.head_dim // 2)
        if self.kind == "complex":
            return {"factor": (*pairs, 2)}
        return {"angle" if self.kind == "phase" else "scale": pairs}

    def initialise(self, p: Any, scheme: str, stream: Stream) -> None:
        """φ from U(-π, π); a = cos φ; w = (cos φ, sin φ)."""
        (parameter,) = (getattr(p, name) for name in self.shapes())
        angle = parameter.new_empty(self.heads, self.head_dim // 2).uniform_(
            -math.pi, math.pi, generator=stream("turn")
        )
        if self.kind == "complex":
            parameter[..., 0].copy_(angle.cos())
            parameter[..., 1].copy_(angle.sin())
        else:
            parameter.copy_(angle if self.kind == "phase" else angle.cos())

    def queries(self, p: Any, queries: "Tensor", first: int) -> "Tensor":
        """w∘k. Keys that several heads share are repeated for each of them."""
        if queries.shape[1] < self.heads:
            queries = queries.repeat_interleave(self.heads // queries.shape[1], dim=1)
        if self.kind == "scale":
            return queries * p.scale.repeat_interleave(2, dim=-1)[:, None, :]
        cos, sin = (p.angle.cos(), p.angle.sin()) if self.kind == "phase" else p.factor.unbind(-1)
        return turned(queries, cos[:, None, :], sin[:, None, :])

    def cosine(self, p: Any) -> "Tensor":
        """Mean of cos φ, the symmetric share of the turn: 1 is kv."""
        if self.kind == "phase":
            return p.angle.cos().mean()
        real = p.scale if self.kind == "scale" else p.factor[..., 0]
        size = real.abs() if self.kind == "scale" else p.factor.norm(dim=-1)
        return (real / size.clamp_min(1e-12)).mean()


class OffsetKeys(Term):
    """k'_j = [first half of k_j, last half of k_{j-1}]: a key knows the token before it; the first one has its own.

    S_ij - S_ji = c(k_i^b·k_{j-1}^b - k_j^b·k_{i-1}^b) for queries that are keys. Source: modded-nanogpt, record 49.
    """

    explanation = "the last half of each key is that of the token before: a token finds what followed its like"
    keeps_symmetry = False

    def keys(self, p: Any, keys: "Tensor", first: int, cache: Any = None) -> "Tensor":
        """Shifted; a decoder's cache keeps the last half of the newest key as it was."""
        import torch

        half = self.head_dim // 2
        own, tail = keys[..., :half], keys[..., half:]
        before = tail[:, :, :1] if cache is None or cache.tail is None else cache.tail
        if cache is not None:
            cache.tail = tail[:, :, -1:]
        return torch.cat([own, torch.cat([before, tail[:, :, :-1]], dim=2)], dim=-1)


def turned(x: "Tensor", cos: "Tensor", sin: "Tensor") -> "Tensor":
    """Each pair z_t of x (…, 2P) times cos_t + i·sin_t, with cos and sin (…, P).

    As complex numbers this is one operation instead of six; half precision has no complex numbers and uses float32.
    """
    import torch

    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    factors = torch.complex(cos.to(wide.dtype), sin.to(wide.dtype))
    product = torch.view_as_complex(wide.unflatten(-1, (-1, 2))) * factors
    return torch.view_as_real(product).flatten(-2).to(x.dtype)
