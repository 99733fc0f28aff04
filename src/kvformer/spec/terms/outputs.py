"""Terms on the mixed values of the heads, before the output map."""

from typing import TYPE_CHECKING, Any, Literal

from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms.base import Stream, Term, draw_map

if TYPE_CHECKING:
    from torch import Tensor


class Exclusive(Term):
    """z_i = y_i - (y_i·v_i)v_i/max(‖v_i‖², 1e-8): the part along the token's own value is removed (XSA, Zhai 2026).

    It equals (1 - a_ii) times the same projection of attention that does not see itself.
    """

    explanation = "a head's output has no part along the token's own value (XSA)"

    def outputs(self, p: Any, outputs: "Tensor", x: "Tensor", values: "Tensor", first: int) -> "Tensor":
        """Without the part along the own value; heads that share values share it."""
        own = values[:, :, first : first + outputs.shape[2]]
        if own.shape[1] < outputs.shape[1]:
            own = own.repeat_interleave(outputs.shape[1] // own.shape[1], dim=1)
        without: Tensor = p.without(outputs, own.contiguous())
        return without


class Gate(Term):
    """y ← σ(x·W_gᵀ + b_g)∘y, one gate per head or per element (Qiu et al. 2025, arXiv 2505.06708)."""

    def __init__(self, model: ModelConfig, length: int, kind: Literal["head", "element"]) -> None:
        super().__init__(model, length)
        self.kind, self.biased = kind, model.projection_bias
        self.gates = self.heads if kind == "head" else self.dim
        self.explanation = f"a gate σ(x·W) per {kind} on the heads' outputs"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`weight` (H or D, d), and `bias` where projections have one."""
        return {"weight": (self.gates, self.dim), **({"bias": (self.gates,)} if self.biased else {})}

    def initialise(self, p: Any, scheme: str, stream: Stream) -> None:
        """As a projection of its own."""
        draw_map(p.weight, p.bias if self.biased else None, scheme, stream, "gate")

    def outputs(self, p: Any, outputs: "Tensor", x: "Tensor", values: "Tensor", first: int) -> "Tensor":
        """Gated."""
        gates = p.linear(x, p.weight, p.bias if self.biased else None).sigmoid()  # (B, N, H or D)
        return outputs * gates.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def macs(self, queries: int, keys: int) -> int:
        """The gates' map."""
        return queries * self.dim * self.gates
