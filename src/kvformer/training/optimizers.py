"""The optimiser of a run."""

import torch
from torch import nn

from kvformer.config.run import RunConfig
from kvformer.models.fast.adam import Adam


def make_optimizer(run: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Adam, whose weight decay is added to the gradient, or AdamW, whose weight decay acts on the weights directly."""
    training = run.training
    return Adam(
        model.parameters(),
        lr=training.learning_rate,
        betas=training.betas,
        eps=training.epsilon,
        weight_decay=training.weight_decay,
        decoupled_weight_decay=training.optimizer == "adamw",
        fused=True,
    )
