"""Learned terms on the attention logits. A term is one class: its parameters, their first values, its effect, its costs
and its explanation. To add one, write the class and add it to `TERMS`; a variant then names it.

Logits S (B, H, N, M) become s·S_ij + γ_j + r_ij, where a term gives any of the gain s, the key bias γ and the bias r.
The methods take the parameters as tensors and use the methods that tensors have: importing this module imports no
torch, so that planning and closed formulas can use it. "maps" is 1, or H where every head has parameters of its own.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kvformer.spec.position_codes import column_code, row_channels
from kvformer.spec.sections import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Stream = Callable[[str], "torch.Generator"]
"""Gives the random generator of a named purpose, so that variants draw equal values for what they share."""


class Term:
    """A term for layers with these sizes. `p` in the methods has the parameters and constants as attributes.

    model: sizes and details. length: longest sequence of keys. small: start near zero instead of the model's own
    initialisation.
    """

    explanation: ClassVar[str]
    keeps_symmetry: ClassVar[bool] = False
    """Whether symmetric logits stay symmetric."""

    def __init__(self, model: ModelConfig, length: int, small: bool = False) -> None:
        self.length, self.small = length, small
        self.heads, self.channels = model.heads, model.position_channels
        self.maps = model.heads if model.position_maps == "head" else 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters by name, with their shapes."""
        return {}

    def constants(self) -> dict[str, np.ndarray]:
        """Fixed arrays by name."""
        return {}

    def initialise(self, p: Any, scheme: str, stream: Stream) -> None:
        """Give the parameters their first values, in place. scheme: `model.init`."""

    def gain(self, p: Any) -> "Tensor | None":
        """Factor s on the logits, (maps,)."""
        return None

    def key_bias(self, p: Any, keys: int) -> "Tensor | None":
        """γ_j of the first `keys` positions, (maps, keys)."""
        return None

    def bias(self, p: Any, queries: int, keys: int, first: int) -> "Tensor | None":
        """r_ij, (maps, queries, keys), with the first query at position `first`."""
        return None

    def parameter_count(self) -> int:
        """Number of parameters of a layer's term."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    def macs(self, keys: int) -> int:
        """Multiply-accumulates of a layer's term for one sequence; pointwise work does not count."""
        return 0


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
    keeps_symmetry = True

    def gain(self, p: Any) -> "Tensor":
        """s = Σ_k w_k."""
        return p.weight.sum(dim=1)  # type: ignore[no-any-return]


class KeyBias(MapTerm):
    """S_ij + γ_j with γ_j = Σ_k w_k P_jk: kv_pos without its gain."""

    explanation = "a learned bias γ_j of the key's position, and no gain"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`weight` (maps, column channels)."""
        return {"weight": (self.maps, self.channels - row_channels(self.channels))}

    def constants(self) -> dict[str, np.ndarray]:
        """`code` (length, column channels): the part of P that depends on the key's position."""
        return {"code": column_code(self.length, self.channels)}

    def key_bias(self, p: Any, keys: int) -> "Tensor":
        """γ_j = Σ_k w_k P_jk."""
        return p.weight @ p.code[:keys].T  # type: ignore[no-any-return]

    def macs(self, keys: int) -> int:
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

    def key_bias(self, p: Any, keys: int) -> "Tensor":
        """γ_j = Σ_{k column} w_k P_jk."""
        gamma = p.weight[:, row_channels(self.channels) :] @ p.code[:keys].T
        return gamma + 0.0 * p.bias[:, None]  # type: ignore[no-any-return]


class Relative(Term):
    """S_ij + r_{i-j} with a learned number for each distance: a directional term."""

    explanation = "a learned bias of the distance i - j: the directional term that kv_pos is not"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`offsets` (maps, 2·length - 1), for the distances -(length - 1) … length - 1."""
        return {"offsets": (self.maps, 2 * self.length - 1)}

    def initialise(self, p: Any, scheme: str, stream: Stream) -> None:
        """Zero: no bias."""
        p.offsets.zero_()

    def bias(self, p: Any, queries: int, keys: int, first: int) -> "Tensor":
        """r_{i-j}."""
        import torch  # whoever has tensors has it already

        rows = torch.arange(first, first + queries, device=p.offsets.device)[:, None]
        columns = torch.arange(keys, device=p.offsets.device)[None, :]
        return p.offsets[:, rows - columns + self.length - 1]  # type: ignore[no-any-return]


TERMS: dict[str, type[Term]] = {
    "pos2d": Pos2D,
    "gain": Gain,
    "key_bias": KeyBias,
    "relative": Relative,
}
"""The terms that a variant can have, by the name in `AttentionSpec.position`."""
