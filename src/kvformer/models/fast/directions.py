"""Parts of vectors along directions, with gradients in few operations.

Why: autograd keeps and passes over a tensor for each of the plain operations (`F.normalize`; a share times the own
value), which made the variants that use them more than a tenth slower than `kv`. Remove when PyTorch fuses these.
"""

import torch
from torch import Tensor

SMALLEST = 1e-8
"""Squared length below which an own value counts as this long."""


def unit(x: Tensor) -> Tensor:
    """x (…, h) at length 1; zeros stay zeros."""
    scaled: Tensor = _Unit.apply(x)
    return scaled


def without(x: Tensor, own: Tensor) -> Tensor:
    """x - (x·v)v/max(‖v‖², 1e-8) over the last axis, for x and v (…, h): x without its part along v."""
    rest: Tensor = _Without.apply(x, own)
    return rest


class _Unit(torch.autograd.Function):
    """u = x/‖x‖; the gradient is (g - (g·u)u)/‖x‖."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        inverse = torch.linalg.vecdot(x, x).clamp_min_(1e-24).rsqrt_()[..., None]
        scaled = x * inverse
        ctx.save_for_backward(scaled, inverse)
        return scaled

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        scaled, inverse = ctx.saved_tensors  # type: ignore[attr-defined]
        along = torch.linalg.vecdot(gradient, scaled)[..., None]
        return torch.addcmul(gradient, along, scaled, value=-1).mul_(inverse)


class _Without(torch.autograd.Function):
    """z = x - s·v with s = x·v/n and n = max(‖v‖², ε). With t = g·v/n, the gradients are g - t·v for x and
    2st·v - s·g - t·x for v, without the first part where n is ε."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, own: Tensor) -> Tensor:
        size = torch.linalg.vecdot(own, own)[..., None].clamp_min_(SMALLEST)
        share = torch.linalg.vecdot(x, own)[..., None].div_(size)
        ctx.save_for_backward(x, own, size, share)
        return torch.addcmul(x, share, own, value=-1)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, own, size, share = ctx.saved_tensors  # type: ignore[attr-defined]
        along = torch.linalg.vecdot(gradient, own)[..., None].div_(size)
        twice = (2 * share * along).mul_(size > SMALLEST)
        for_own = torch.mul(own, twice).addcmul_(share, gradient, value=-1).addcmul_(along, x, value=-1)
        return torch.addcmul(gradient, along, own, value=-1), for_own
