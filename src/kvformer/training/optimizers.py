"""The optimiser of a run."""

from typing import Any

import torch
from torch import Tensor, nn

from kvformer.config.run import RunConfig
from kvformer.models.fast.adam import Adam
from kvformer.training.schedules import first_beta, learning_rate


def make_optimizer(run: RunConfig, model: nn.Module) -> Adam:
    """Adam, whose weight decay is added to the gradient, or AdamW, whose weight decay acts on the weights directly."""
    return Adam(model.parameters(), **_options(run))


def make_planned_optimizer(run: RunConfig, model: nn.Module) -> "PlannedAdam":
    """The same for steps that read their rates from `PlannedAdam.rates`."""
    kind = PlannedAdam if run.training.schedule != "one_cycle" else PlannedMomentumAdam
    return kind(model.parameters(), **_options(run))


def _options(run: RunConfig) -> dict[str, Any]:
    training = run.training
    return {
        "lr": training.learning_rate,
        "betas": training.betas,
        "eps": training.epsilon,
        "weight_decay": training.weight_decay,
        "decoupled_weight_decay": training.optimizer == "adamw",
        "fused": True,
    }


def rates(step: int, steps: int, run: RunConfig) -> tuple[float, float, float, float]:
    """Of a step in 0 … steps - 1, with t = step + 1: the learning rate η, β₁, η/(1 - β₁^t) and √(1 - β₂^t)."""
    training = run.training
    rate, beta = learning_rate(step, steps, training, run.model), first_beta(step, steps, training)
    return rate, beta, rate / (1 - beta ** (step + 1)), (1 - training.betas[1] ** (step + 1)) ** 0.5


class PlannedAdam(Adam):
    """Adam that reads the learning rate from a tensor, so that a CUDA graph can take its steps.

    rates: (4,), those of the step (see `rates`). Call `bind` after a state was loaded.
    """

    def __init__(self, parameters: Any, **options: Any) -> None:
        super().__init__(parameters, **options)
        device = self.param_groups[0]["params"][0].device
        # The fused kernel reads doubles on a CPU, where a step equals one with plain numbers, and floats on a GPU.
        self.rates = torch.zeros(4, dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
        self.bind()

    def bind(self) -> None:
        """Let every group read the learning rate from `rates`."""
        for group in self.param_groups:
            group["lr"], group["capturable"] = self.rates[0], True

    def tensors(self) -> list[Tensor]:
        """Everything that a step changes, but for the weights: moments, which start at zero, and their step counts."""
        return [value for entry in self.state.values() for value in entry.values() if isinstance(value, Tensor)]

    def copy_from(self, other: "PlannedAdam") -> None:
        """Copy the moments of an optimiser of equal parameters into this one's tensors; zeros before its first step."""
        parameters, others = (
            [parameter for group in each.param_groups for parameter in group["params"]] for each in (self, other)
        )
        for parameter, from_parameter in zip(parameters, others, strict=True):
            moments = other.state.get(from_parameter, {})
            for name, value in self.state.get(parameter, {}).items():
                value.copy_(moments[name]) if name in moments else value.zero_()


class PlannedMomentumAdam(PlannedAdam):
    """`PlannedAdam` that reads β₁ from `rates`, too, which PyTorch's fused kernel takes only as a number.

    Equal to the fused kernel up to rounding.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update."""
        assert closure is None
        rate, beta, corrected, root = self.rates.unbind()
        for group in self.param_groups:
            weights: list[Tensor] = []
            gradients: list[Tensor] = []
            means: list[Tensor] = []
            squares: list[Tensor] = []
            counts: list[Tensor] = []
            self._init_group(group, weights, gradients, means, squares, [], counts)
            decay, second = group["weight_decay"], group["betas"][1]
            if decay and group["decoupled_weight_decay"]:
                torch._foreach_mul_(weights, 1 - rate * decay)
            elif decay:
                gradients = list(torch._foreach_add(gradients, weights, alpha=decay))
            torch._foreach_mul_(means, beta)
            torch._foreach_add_(means, torch._foreach_mul(gradients, 1 - beta))
            torch._foreach_mul_(squares, second)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
            scales = torch._foreach_sqrt(squares)
            torch._foreach_div_(scales, root)
            torch._foreach_add_(scales, group["eps"])
            updates = torch._foreach_div(means, scales)
            torch._foreach_mul_(updates, -corrected)
            torch._foreach_add_(weights, updates)
            torch._foreach_add_(counts, 1)
