"""Rotary positions: of whole queries and keys, or of a part of the keys that has a map of its own."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kvformer.spec.projections import rotary_part
from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms.base import Term
from kvformer.spec.terms.queries_keys import turned

if TYPE_CHECKING:
    from torch import Tensor


class Rotary(Term):
    """Rotary positions: pair t at position i is turned by i·θ_t, θ_t = base^(-2t/r) (Su et al. 2021, arXiv 2104.09864).

    S_ij = c·q_iᵀR_{j-i}k_j depends on the distance alone. r = 2·round(fraction·h/2) components are rotated. when:
    `stored`: keys are rotated before they are stored. `read`: keys that are values, too, are stored as they are, and
    rotated when they meet the queries. `back`: rotated keys serve as values, and the outputs are turned back:
    o_i = Σ_j a_ij R_{j-i}k_j.
    """

    explanation = "rotary positions: logits depend on the distance of query and key"

    def __init__(self, model: ModelConfig, length: int, when: Literal["stored", "read", "back"] = "stored") -> None:
        super().__init__(model, length)
        self.when, self.base = when, model.rope_base
        self.rotated = rotated_width(model)

    def constants(self) -> dict[str, np.ndarray]:
        """`cos` and `sin` (length, r/2)."""
        frequencies = self.base ** (-2 * np.arange(self.rotated // 2) / self.rotated)
        angles = np.arange(self.length)[:, None] * frequencies
        return {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}

    def queries(self, p: Any, queries: "Tensor", first: int) -> "Tensor":
        """Rotated."""
        return self._rotated(p, queries, first)

    def keys(self, p: Any, keys: "Tensor", first: int, cache: Any = None) -> "Tensor":
        """Rotated, unless that waits until they are read."""
        return keys if self.when == "read" else self._rotated(p, keys, first)

    def read(self, p: Any, keys: "Tensor", values: "Tensor") -> "tuple[Tensor, Tensor]":
        """Rotated keys, if they are stored as they are."""
        return self._rotated(p, keys, 0) if self.when == "read" else keys, values

    def outputs(self, p: Any, outputs: "Tensor", x: "Tensor", values: "Tensor", first: int) -> "Tensor":
        """Turned back where values are rotated keys."""
        return self._rotated(p, outputs, first, back=True) if self.when == "back" else outputs

    def _rotated(self, p: Any, x: "Tensor", first: int, back: bool = False) -> "Tensor":
        import torch

        rows = slice(first, first + x.shape[2])
        part = turned(x[..., : self.rotated], p.cos[rows], -p.sin[rows] if back else p.sin[rows])
        return part if self.rotated == x.shape[-1] else torch.cat([part, x[..., self.rotated :]], dim=-1)


class RotaryApart(Rotary):
    """Keys of two parts: the first h - r components of the values, and a part of r = h/2 components with a map of its
    own, which alone is rotated; queries are split in the same way.

    S_ij = c·(q_i·[v_j, R_j k^r_j]), where q_i's last r components are turned by R_i. Stored are k^r, rotated, and the
    values (Su 2025, kexue.fm 10907). With one k^r for all key heads it is GTA (Zadouri et al. 2025, arXiv 2505.21487).
    """

    def __init__(self, model: ModelConfig, length: int) -> None:
        super().__init__(model, length)
        self.rotated = rotary_part(model)

    def queries(self, p: Any, queries: "Tensor", first: int) -> "Tensor":
        """With the last r components rotated."""
        import torch

        content, part = queries.split([queries.shape[-1] - self.rotated, self.rotated], dim=-1)
        return torch.cat([content, self._rotated(p, part, first)], dim=-1)

    def read(self, p: Any, keys: "Tensor", values: "Tensor") -> "tuple[Tensor, Tensor]":
        """Keys put together from the values and from their rotated parts."""
        return self._joined(values[..., : self.head_dim - self.rotated], keys), values

    def _joined(self, content: "Tensor", part: "Tensor") -> "Tensor":
        import torch

        return torch.cat([content, part.expand(-1, content.shape[1], -1, -1)], dim=-1)


def rotated_width(model: ModelConfig) -> int:
    """r, the components of a head that are rotated: 2·round(rope_fraction·h/2)."""
    return 2 * round(model.rope_fraction * model.head_dim / 2)
