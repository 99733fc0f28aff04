"""Linear maps, on x86 CPUs by oneDNN.

Why: PyTorch passes float32 products to MKL, which uses half the width of the vector units on CPUs that are not Intel's.
oneDNN, which PyTorch also contains, uses the full width: training steps of wide models take about half the time there.
Remove when `torch.nn.functional.linear` is as fast as `_product` on AMD processors.
"""

import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WORTHWHILE = 1 << 22
"""Multiply-accumulates from which oneDNN is faster; below, its calls cost more than they save (measured)."""

_available = (
    torch.backends.mkldnn.is_available()
    and platform.machine().lower() in ("x86_64", "amd64")
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x·Wᵀ + b of x (…, inputs) and weight (outputs, inputs), (…, outputs); equal to PyTorch's up to rounding."""
    macs = x.numel() * weight.shape[0]
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu" and x.ndim > 1
    onednn = _available and plain and macs >= WORTHWHILE and not torch.is_autocast_enabled("cpu")
    if not onednn or torch.compiler.is_compiling():  # the compiler knows PyTorch's own products
        return F.linear(x, weight, bias)
    return _OneDNN.apply(x, weight, bias)


class _OneDNN(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None  # type: ignore[attr-defined]
        return _product(x, weight, bias)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        has_bias = ctx.has_bias  # type: ignore[attr-defined]
        gradient = gradient.contiguous()
        for_x = _product(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]
        rows, inputs = gradient.flatten(0, -2), x.flatten(0, -2)
        if rows.shape[1] < inputs.shape[1]:
            for_weight = _product(rows.t(), inputs.t(), None)
        else:  # oneDNN is faster where the result is wider than high
            for_weight = _product(inputs.t(), rows.t(), None).t().contiguous()
        return for_x, for_weight, rows.sum(0) if has_bias else None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
