"""A term of an attention layer: one class with its parameters, first values, effect, costs and explanation.

A term may act on the queries, on the keys, on the logits S (s·S_ij + γ_j + r_ij, with gain s, key bias γ and bias r) or
on the mixed values. The methods take the parameters and constants as attributes of `p` and use the methods that tensors
have: importing a term imports no torch, so that planning and closed formulas can use it.

Shapes: B batch, H heads, G key/value heads, N queries, M keys, h width of a head, P = h/2 pairs. "maps" is 1, or H
where every head has parameters of its own.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kvformer.spec.sections import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Stream = Callable[[str], "torch.Generator"]
"""Gives the random generator of a named purpose, so that variants draw equal values for what they share."""


class Span(NamedTuple):
    """Which queries meet which keys: `queries` of them, the first at position `first`, and the `keys` from position 0.

    causal: no query sees a later key.
    """

    first: int
    queries: int
    keys: int
    causal: bool = False


def draw_map(
    weight: "Tensor", bias: "Tensor | None", scheme: str, stream: Stream, name: str, fan_out: int | None = None
) -> None:
    """Give an attention layer's map (outputs, inputs) of this name its first values, in place.

    scheme: `model.init`. fan_out: outputs that Xavier's bound counts, if not the map's own.
    """
    outputs, inputs = weight.shape
    default = 1 / math.sqrt(inputs)
    bound = default if scheme == "default" else math.sqrt(6 / (inputs + (fan_out or outputs)))
    weight.uniform_(-bound, bound, generator=stream(name))
    if bias is not None and scheme in ("xavier_attention", "xavier_fused"):
        bias.zero_()
    elif bias is not None:
        bias.uniform_(-default, default, generator=stream(f"{name} bias"))


class Term:
    """A term for layers with these sizes; every effect is the identity unless a class says otherwise.

    model: sizes and details. length: longest sequence of keys. small: start near zero instead of the model's own
    initialisation.
    """

    explanation: str
    keeps_symmetry: bool = True
    """Whether symmetric logits stay symmetric."""

    def __init__(self, model: ModelConfig, length: int, small: bool = False) -> None:
        self.length, self.small = length, small
        self.dim, self.heads, self.head_dim = model.dim, model.heads, model.head_dim
        self.channels = model.position_channels
        self.maps = model.heads if model.position_maps == "head" else 1

    def __init_subclass__(cls) -> None:
        """Raises TypeError for a public name that no term has: a misspelt effect would have no effect."""
        super().__init_subclass__()
        known = {"explanation", *(name for name in vars(Term) if not name.startswith("_"))}
        if unknown := {name for name in vars(cls) if not name.startswith("_")} - known:
            raise TypeError(
                f"{cls.__name__}: {', '.join(sorted(unknown))} is not part of a term: {', '.join(sorted(known))}"
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters by name, with their shapes."""
        return {}

    def constants(self) -> dict[str, np.ndarray]:
        """Fixed arrays by name."""
        return {}

    def initialise(self, p: Any, scheme: str, stream: Stream) -> None:
        """Give the parameters their first values, in place. scheme: `model.init`."""

    def queries(self, p: Any, queries: "Tensor", first: int) -> "Tensor":
        """The queries (B, H, N, h) of positions first … first + N - 1, before they are scaled."""
        return queries

    def keys(self, p: Any, keys: "Tensor", first: int, cache: Any = None) -> "Tensor":
        """New keys (B, G, N, h) as they are stored. cache: that of an incremental decoder, which may keep more."""
        return keys

    def values(self, p: Any, values: "Tensor") -> "Tensor":
        """New values (B, G, N, h) as they are stored, unless they are the keys."""
        return values

    def read(self, p: Any, keys: "Tensor", values: "Tensor") -> "tuple[Tensor, Tensor]":
        """All stored keys and values (B, G, M, h) as they meet the queries."""
        return keys, values

    def gain(self, p: Any) -> "Tensor | None":
        """Factor s on the logits, (maps,)."""
        return None

    def key_bias(self, p: Any, span: Span) -> "Tensor | None":
        """γ_j, (maps, keys)."""
        return None

    def logit_bias(self, p: Any, span: Span) -> "Tensor | None":
        """r_ij, (maps, queries, keys)."""
        return None

    def outputs(self, p: Any, outputs: "Tensor", x: "Tensor", values: "Tensor", first: int) -> "Tensor":
        """The mixed values (B, H, N, h). x: the layer's input (B, N, D). values: all values (B, G, M, h)."""
        return outputs

    def cosine(self, p: Any) -> "Tensor | None":
        """Mean of cos φ, for terms that turn queries by angles φ."""
        return None

    def parameter_count(self) -> int:
        """Number of parameters of a layer's term."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    def macs(self, queries: int, keys: int) -> int:
        """Multiply-accumulates of a layer's term for one sequence; pointwise work does not count."""
        return 0
