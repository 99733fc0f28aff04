"""The optimiser is bit-equal to PyTorch's, and does not import torch._dynamo."""

import subprocess
import sys

import pytest
import torch

from kvformer.config.loading import single_run
from kvformer.training.optimizers import make_optimizer


@pytest.mark.parametrize(("name", "reference"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_bit_equal_to_pytorchs(name: str, reference: type[torch.optim.Optimizer]) -> None:
    changes = [f"training.optimizer={name}", "training.weight_decay=0.1", "training.learning_rate=0.01"]
    run, _ = single_run("reverse", "kv", 0, overrides=changes)
    models = [torch.nn.Linear(5, 3) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [
        make_optimizer(run, models[0]),
        reference(models[1].parameters(), lr=0.01, weight_decay=0.1, fused=True),
    ]
    inputs = torch.randn(20, 7, 5)
    for x in inputs:
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    assert torch.equal(models[0].weight, models[1].weight)
    assert torch.equal(models[0].bias, models[1].bias)


def test_a_step_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from kvformer.config.loading import single_run;"
        "from kvformer.training.optimizers import make_optimizer;"
        "model = torch.nn.Linear(2, 2); optimizer = make_optimizer(single_run('reverse', 'kv', 0)[0], model);"
        "model(torch.ones(1, 2)).sum().backward(); optimizer.step(); optimizer.zero_grad();"
        "optimizer.load_state_dict(optimizer.state_dict()); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
