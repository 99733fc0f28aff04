"""PyTorch's fused Adam, without importing the compiler.

Why: an optimiser's first step imports `torch._dynamo`, which takes two seconds of processor time, more than many short
runs. Remove when PyTorch's own `Adam.step` no longer imports it.
"""

import inspect
from typing import Any

import torch

_plain_step = inspect.unwrap(torch.optim.Adam.step)
"""Adam's step without its wrappers, which handle differentiable optimisers and tracing."""

for _method in vars(torch.optim.Optimizer).values():
    # Methods that compiled code must not trace look for this attribute before they import torch._dynamo.
    if (_wrapped := getattr(_method, "__wrapped__", None)) is not None:
        _wrapped.__dict__.setdefault("__dynamo_disable", _wrapped)


class Adam(torch.optim.Adam):
    """`torch.optim.Adam` with a step that does not import the compiler; the updates are equal to the bit."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update."""
        assert closure is None
        _plain_step(self)
