"""Terms on the logits: s·S_ij + γ_j + r_ij."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kvformer.spec.position_codes import column_code, row_channels
from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms.base import Span, Stream, Term

if TYPE_CHECKING:
    from torch import Tensor


class MapTerm(Term):
    """A term with a weight for each of m channels, which starts like a linear layer from m channels to one."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`weight` (maps, m)."""
        return {"weight": (self.maps, self.channels)}

    def initialise(self, p: Any, scheme: str, stream: Stream) -> None:
        """Xavier, PyTorch's default, or (small) 0.02·N(0, 1); terms with fewer weights take the last of the m draws."""
        bound = 1 / math.sqrt(self.channels) if scheme == "default" else math.sqrt(6 / (self.channels + 1))
        drawn = p.weight.new_empty(self.maps, self.channels)
        if self.small:
            drawn.normal_(0, 0.02, generator=stream("weight"))
        else:
            drawn.uniform_(-bound, bound, generator=stream("weight"))
        p.weight.copy_(drawn[:, -p.weight.shape[1] :])


class Gain(MapTerm):
    """s·S_ij with s = Σ_k w_k: kv_pos without its key bias."""

    explanation = "a learned gain s = Σw on the logits, and no bias"

    def gain(self, p: Any) -> "Tensor":
        """s = Σ_k w_k."""
        return p.weight.sum(dim=1)


class KeyBias(MapTerm):
    """S_ij + γ_j with γ_j = Σ_k w_k P_jk: kv_pos without its gain."""

    explanation = "a learned bias γ_j of the key's position, and no gain"
    keeps_symmetry = False

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`weight` (maps, column channels)."""
        return {"weight": (self.maps, self.channels - row_channels(self.channels))}

    def constants(self) -> dict[str, np.ndarray]:
        """`code` (length, column channels): the part of P that depends on the key's position."""
        return {"code": column_code(self.length, self.channels)}

    def key_bias(self, p: Any, span: Span) -> "Tensor":
        """γ_j = Σ_k w_k P_jk."""
        return p.weight @ p.code[: span.keys].T

    def macs(self, queries: int, keys: int) -> int:
        """The weighted sum of the code's channels."""
        return self.maps * keys * (self.channels - row_channels(self.channels))


class Pos2D(Gain, KeyBias):
    """The 2D positional term of arXiv 2305.19129, in its exact reduced form.

    As published, logits S are broadcast to m channels, a fixed code P (n x n x m) is added, and a linear map with
    weight w ∈ R^m and bias b leads back to one channel: L_ij = Σ_k w_k (S_ij + P_ijk) + b. P holds row channels (a
    function of i) and column channels (of j). The row part and b add the same to all logits of a row, which the softmax
    ignores, so the same attention is softmax_j(s·S_ij + γ_j) with s = Σ_k w_k and γ_j = Σ_{k column} w_k P_jk. w and b
    stay the parameters, so that training behaves as published; the gradient of b is exactly zero.
    """

    explanation = "the paper's 2D positional term, in its reduced form: a gain s and a bias γ_j of the key's position"
    keeps_symmetry = False

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`weight` (maps, m) and `bias` (maps,)."""
        return {"weight": (self.maps, self.channels), "bias": (self.maps,)}

    def initialise(self, p: Any, scheme: str, stream: Stream) -> None:
        """As any map; the bias is zero."""
        super().initialise(p, scheme, stream)
        p.bias.zero_()

    def key_bias(self, p: Any, span: Span) -> "Tensor":
        """γ_j = Σ_{k column} w_k P_jk."""
        gamma = p.weight[:, row_channels(self.channels) :] @ p.code[: span.keys].T
        return gamma + 0.0 * p.bias[:, None]


class Relative(Term):
    """S_ij + κ·r_{i-j} with a learned number for each distance: a directional term.

    κ is the number of channels m: Adam moves a parameter by about a learning rate per step, and a sum of m weights (the
    gain of kv_pos) m times as far. Without the factor the bias could hardly move in a short training.
    """

    explanation = "a learned bias of the distance i - j: the directional term that kv_pos is not"
    keeps_symmetry = False

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`offsets` (maps, 2·length - 1), for the distances -(length - 1) … length - 1."""
        return {"offsets": (self.maps, 2 * self.length - 1)}

    def initialise(self, p: Any, scheme: str, stream: Stream) -> None:
        """Zero: no bias."""
        p.offsets.zero_()

    def logit_bias(self, p: Any, span: Span) -> "Tensor":
        """κ·r_{i-j}."""
        return self.channels * p.offsets[:, _distances(span, p.offsets) + self.length - 1]


class HeadRelative(Relative):
    """`Relative` with numbers of its own for every head, whatever `model.position_maps` says."""

    explanation = "the logits are a learned bias of the distance i - j for every head, and nothing else"

    def __init__(self, model: ModelConfig, length: int, small: bool = False) -> None:
        super().__init__(model, length, small)
        self.maps = model.heads


class ALiBi(Term):
    """S_ij - m_a·|i - j| with a fixed slope for each head a (Press et al. 2022, arXiv 2108.12409).

    Under a causal mask -m_a·(i - j) = m_a·j - m_a·i, and the softmax over j ignores the part in i: a key bias.
    """

    explanation = "a fixed penalty on the distance, with another slope for each head"

    def constants(self) -> dict[str, np.ndarray]:
        """`slopes` (H,)."""
        return {"slopes": alibi_slopes(self.heads)}

    def key_bias(self, p: Any, span: Span) -> "Tensor | None":
        """m_a·j under a causal mask."""
        import torch

        if not span.causal:
            return None
        return p.slopes[:, None] * torch.arange(span.keys, device=p.slopes.device)[None, :]

    def logit_bias(self, p: Any, span: Span) -> "Tensor | None":
        """-m_a·|i - j| without one."""
        return None if span.causal else -p.slopes[:, None, None] * _distances(span, p.slopes).abs()


def _distances(span: Span, like: "Tensor") -> "Tensor":
    """i - j, (queries, keys), on the device of `like`."""
    import torch  # whoever has tensors has it already

    rows = torch.arange(span.first, span.first + span.queries, device=like.device)
    return rows[:, None] - torch.arange(span.keys, device=like.device)


def alibi_slopes(heads: int) -> np.ndarray:
    """m_a = 2^(-8a/H) for a = 1 … H, (H,) float32; for other H than powers of two the slopes of the power below, then
    every second one of the power above."""
    power = 2 ** int(math.log2(heads))
    slopes = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    between = 2.0 ** (-8 * np.arange(1, 2 * power + 1) / (2 * power))
    return np.concatenate([slopes, between[::2]])[:heads].astype(np.float32)
