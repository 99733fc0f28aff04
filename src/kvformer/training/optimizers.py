"""Optimisers: PyTorch's fused Adam, without what only torch.compile needs.

An optimiser's first step imports `torch._dynamo`, which takes two seconds of processor time.
"""

import inspect
from typing import Any

import torch
from torch import nn

from kvformer.config.run import RunConfig

_plain_step = inspect.unwrap(torch.optim.Adam.step)
"""Adam's step without its wrappers, which handle differentiable optimisers and tracing."""

for _method in vars(torch.optim.Optimizer).values():
    # Methods that compiled code must not trace look for this attribute before they import torch._dynamo.
    if (_wrapped := getattr(_method, "__wrapped__", None)) is not None:
        _wrapped.__dict__.setdefault("__dynamo_disable", _wrapped)


class Adam(torch.optim.AdamW):
    """Adam, with weight decay decoupled (AdamW) or added to the gradient; one fused pass over each parameter."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update. Bit-equal to torch.optim.Adam's and AdamW's."""
        assert closure is None
        _plain_step(self)


def make_optimizer(run: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a run."""
    training = run.training
    optimizer = Adam(
        model.parameters(),
        lr=training.learning_rate,
        betas=training.betas,
        eps=training.epsilon,
        weight_decay=training.weight_decay,
        fused=True,
    )
    for group in optimizer.param_groups:
        group["decoupled_weight_decay"] = training.optimizer == "adamw"
    return optimizer
