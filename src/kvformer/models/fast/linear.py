"""Linear maps, on x86 CPUs by oneDNN unless PyTorch's own products are faster there.

Why: PyTorch passes float32 products to MKL, which uses half the width of the vector units on CPUs that are not Intel's.
oneDNN, which PyTorch also contains, uses the full width: training steps of wide models take about half the time there.
Remove when `torch.nn.functional.linear` is as fast as `_product` on AMD processors.

Both give the same up to rounding. `training.linear_maps` chooses once per kind of machine.
"""

import math
import platform
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WORTHWHILE = 1 << 22
"""Multiply-accumulates from which oneDNN is faster on AMD processors; below, its calls cost more than they save."""
LIBRARIES = {"oneDNN": WORTHWHILE, "oneDNN for large maps": 1 << 25, "PyTorch": None}
"""The choices, with the multiply-accumulates from which oneDNN is used."""
SIZES = {"oneDNN": (1024, 64, 256), "oneDNN for large maps": (1024, 256, 256)}
"""Rows, inputs and outputs of a map that stands for those which a choice gives to oneDNN."""
TURNS = 21
SLOWER = 1.1
"""PyTorch's products are used where oneDNN's take more than this many times as long: where they do not differ clearly,
no measurement can change the choice."""

_available = (
    torch.backends.mkldnn.is_available()
    and platform.machine().lower() in ("x86_64", "amd64")
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
_library = "oneDNN" if _available else "PyTorch"


def available() -> bool:
    """Whether there is a choice on this processor."""
    return _available


def library() -> str:
    """Which of `LIBRARIES` computes linear maps in this process."""
    return _library


def use(name: str) -> None:
    """Let linear maps be computed by one of `LIBRARIES`; where oneDNN is not available, PyTorch does it."""
    global _library
    _library = name if _available else "PyTorch"


def measured(clock: Callable[[], float] = time.process_time) -> dict[str, float]:
    """How many times as long as PyTorch oneDNN takes for a map of each of `SIZES`, forward and backward.

    Both take turns, and the shortest time of each counts: what else runs on the machine can only add to it. One thread,
    because several wait for each other on a busy machine, however often they try.
    """
    threads, seconds = torch.get_num_threads(), dict[tuple[str, object], float]()
    torch.set_num_threads(1)
    maps = {name: [torch.ones(size) for size in ((n, d), (e, d), (e,), (n, e))] for name, (n, d, e) in SIZES.items()}
    for _ in range(TURNS):
        for name, (*arguments, change) in maps.items():
            for product in (_OneDNN.apply, F.linear):
                begin = clock()
                torch.autograd.grad(product(*(x.requires_grad_() for x in arguments)), arguments, change)
                seconds[name, product] = min(clock() - begin, seconds.get((name, product), math.inf))
    torch.set_num_threads(threads)
    return {name: seconds[name, _OneDNN.apply] / seconds[name, F.linear] for name in SIZES}


def best(ratios: Mapping[str, float]) -> str:
    """The first of `LIBRARIES` that gives no map to oneDNN for which oneDNN is clearly slower, by `measured` ratios."""
    names = list(LIBRARIES)
    return next(
        name for place, name in enumerate(names) if all(ratios[one] <= SLOWER for one in names[place:] if one in SIZES)
    )


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x·Wᵀ + b of x (…, inputs) and weight (outputs, inputs), (…, outputs); equal to PyTorch's up to rounding."""
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu" and x.ndim > 1
    least = LIBRARIES[_library]
    large = least is not None and x.numel() * weight.shape[0] >= least
    onednn = large and plain and not torch.is_autocast_enabled("cpu")
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
