"""Learning-rate schedules at known points, and against PyTorch's own."""

import math
from typing import Any

import pytest
import torch

from kvformer.spec.sections import ModelConfig, TrainingConfig
from kvformer.training.schedules import first_beta, learning_rate

MODEL = ModelConfig(dim=256)


def rates(steps: int, model: ModelConfig = MODEL, **fields: Any) -> list[float]:
    training = TrainingConfig.model_validate({"steps": steps, **fields})
    return [learning_rate(step, steps, training, model) for step in range(steps)]


def test_constant() -> None:
    assert rates(4, learning_rate=0.3) == [0.3] * 4
    assert rates(6, learning_rate=0.4, warmup_steps=4) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4])


def test_cosine_of_the_published_synthetic_tasks() -> None:
    """0.5(1 + cos(π·t/780)), times t/5 for the first 5 steps: 0 at step 0, half of the peak midway."""
    values = rates(780, schedule="cosine", warmup_steps=5, learning_rate=1e-3)
    assert values[0] == 0.0
    assert values[1] == pytest.approx(1e-3 * 0.2 * 0.5 * (1 + math.cos(math.pi / 780)))
    assert values[390] == pytest.approx(0.5e-3)
    assert values[779] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * 779 / 780)))
    assert values[5:] == sorted(values[5:], reverse=True)


def test_cosine_is_pytorchs() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.7)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(50, schedule="cosine", learning_rate=0.7) == pytest.approx(expected)


def test_cosine_after_the_warmup_is_pytorchs() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.7)
    parts = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 8),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150),
    ]
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[8])
    expected = []
    for _ in range(158):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(158, schedule="warmup_cosine", warmup_steps=8, learning_rate=0.7) == pytest.approx(expected)


def test_wsd_rises_stays_and_falls_in_straight_lines() -> None:
    """Warm-up over 10 of 100 steps, the peak, and the last quarter of the steps down to 0 at step 100."""
    values = rates(100, schedule="wsd", warmup_steps=10, decay_share=0.25, learning_rate=0.5)
    assert values[:10] == pytest.approx([0.05 * step for step in range(10)])
    assert values[10:76] == [0.5] * 66
    assert values[76:] == pytest.approx([0.02 * (100 - step) for step in range(76, 100)])


def test_wsd_of_another_length_has_the_same_rates_until_one_of_them_decays() -> None:
    short, long = (rates(steps, schedule="wsd", warmup_steps=5) for steps in (50, 100))
    assert short[:41] == long[:41]


def test_inverse_sqrt_of_the_transformer_paper() -> None:
    """d^-½ · min(t^-½, t · 4000^-1.5), t from 1: rises linearly, peaks at t = 4000."""
    values = rates(8000, schedule="inverse_sqrt", warmup_steps=4000, learning_rate=1.0)
    assert values[0] == pytest.approx(256**-0.5 * 4000**-1.5)
    assert max(values) == values[3999] == pytest.approx(256**-0.5 * 4000**-0.5)
    assert values[7999] == pytest.approx(256**-0.5 * 8000**-0.5)


def test_one_cycle_of_fastai() -> None:
    """From peak/25 to the peak over a quarter of the steps, then down to peak/1e5; the momentum moves the other way."""
    training = TrainingConfig.model_validate({"steps": 400, "schedule": "one_cycle", "learning_rate": 1e-3})
    values = [learning_rate(step, 400, training, MODEL) for step in range(401)]
    assert values[0] == pytest.approx(1e-3 / 25)
    assert max(values) == values[100] == pytest.approx(1e-3)
    assert values[400] == pytest.approx(1e-8)
    assert values[50] == pytest.approx((1e-3 + 1e-3 / 25) / 2)
    betas = [first_beta(step, 400, training) for step in range(401)]
    assert (betas[0], betas[100], betas[400]) == pytest.approx((0.95, 0.85, 0.95))
    assert first_beta(3, 400, TrainingConfig.model_validate({"steps": 400, "betas": [0.8, 0.9]})) == 0.8


def test_one_cycle_is_pytorchs() -> None:
    """OneCycleLR with 25, 1e5 / 25 and 25 % of the steps; its last step is at steps - 1, ours at steps."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1e-3, total_steps=402, pct_start=0.25, div_factor=25, final_div_factor=4000, cycle_momentum=False
    )
    expected = []
    for _ in range(401):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    training = TrainingConfig.model_validate({"steps": 400, "schedule": "one_cycle", "learning_rate": 1e-3})
    values = [learning_rate(step, 400, training, MODEL) for step in range(401)]
    # PyTorch's peak falls on step 0.25·402 - 1 = 99.5 of 401, ours on step 100 of 400.
    assert values == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "warmup_cosine", "one_cycle", "inverse_sqrt", "wsd"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 5), (3, 100)])
def test_short_runs_have_finite_rates(schedule: str, steps: int, warmup: int) -> None:
    values = rates(steps, schedule=schedule, warmup_steps=warmup)
    assert all(0 <= value <= 1 and math.isfinite(value) for value in values)
