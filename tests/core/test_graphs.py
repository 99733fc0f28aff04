"""Steps that follow a plan on the device equal eager ones, recorded or not; a graph can record them."""

import math
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import results, tiny_run
from tape import record
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kvformer.config.run import RunConfig
from kvformer.errors import ConfigError
from kvformer.records.run import RunFolder
from kvformer.tasks import TASKS
from kvformer.training import loop as loop_module
from kvformer.training import stepping
from kvformer.training.graphs import Recorder
from kvformer.training.loop import Trainer
from kvformer.training.optimizers import make_optimizer, make_planned_optimizer, rates
from kvformer.training.precision import set_precision
from kvformer.training.run import train_run
from kvformer.training.stepping import PLANNED, PlannedStepper

FIXED = [name for name, task in TASKS.items() if task.architecture != "seq2seq"]
VARIANTS = ("qkv", "kv", "kv_pos", "kv_rot", "kv_xsa", "kv_offset", "kv_gate", "pos_only", "q_mqa_apart", "mla")
gpu = pytest.mark.gpu
RAGGED = {"data": {"train_examples": 36}, "training": {"drop_last": False, "steps": 12}}


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, record)


def use(monkeypatch: pytest.MonkeyPatch, recorder: Recorder | None) -> None:
    """Let CPUs follow plans, too, and record them by this."""
    monkeypatch.setattr(loop_module, "recorder", lambda device: recorder)


def trained(run: RunConfig, out: Path, data: Path, device: str = "cpu", **options: Any) -> dict[str, Any]:
    train_run(run, out, data, device=device, keep_weights=True, **options)
    return results(out)


@pytest.mark.parametrize("variant", ["qkv", "kv_pos", "kv_rot"])
@pytest.mark.parametrize("task", FIXED)
def test_recorded_steps_give_the_results_of_eager_ones(
    task: str, variant: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(task, variant)
    eager = trained(run, tmp_path / "eager", prepared)
    use(monkeypatch, record)
    recorded = trained(run, tmp_path / "recorded", prepared)
    assert recorded == trained(run, tmp_path / "planned", prepared, graphs=False)
    if run.training.schedule == "one_cycle":  # its optimiser is another one, equal up to rounding
        assert recorded["summary"]["metrics"] == pytest.approx(eager["summary"]["metrics"], rel=1e-4)
    else:
        assert recorded == eager


@pytest.mark.parametrize(
    "changes",
    [
        RAGGED,
        {"training": {"steps": PLANNED + 3, "select": "best", "clip_norm": 0.1}},
        {"training": {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup_steps": 2}},
        {"training": {"precision": "bf16", "batch_size": 64}, "model": {"mlp_dropout": 0.5, "attention_dropout": 0.2}},
    ],
)
def test_ragged_batches_long_runs_and_every_option(
    changes: dict[str, Any], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("reverse", **changes)
    eager = trained(run, tmp_path / "eager", prepared)
    use(monkeypatch, record)
    assert trained(run, tmp_path / "recorded", prepared) == eager


@pytest.mark.parametrize(
    ("task", "changes"), [("anomaly", {}), ("cifar10", {}), ("numbers", {}), ("characters", {}), ("copy", RAGGED)]
)
def test_an_interrupted_run_goes_on_exactly(
    task: str,
    changes: dict[str, Any],
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recording: None,
) -> None:
    run = tiny_run(task, **changes)
    whole = trained(run, tmp_path / "whole", prepared)
    original = Trainer.train_step
    left = [1, 3, 4]

    def step(self: Trainer) -> None:
        original(self)
        if left and self.state.step == left[0]:
            left.pop(0)
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_step", step)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            trained(run, tmp_path / "pieces", prepared, checkpoint_seconds=0.0)
    assert trained(run, tmp_path / "pieces", prepared) == whole


def test_a_step_that_cannot_be_recorded_is_one_line(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("copy", model={"mlp_dropout": 0.5})
    eager = trained(run, tmp_path / "eager", prepared)

    def fails(action: Any, undo: Any) -> Any:
        action()
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand a second line")

    use(monkeypatch, fails)
    capsys.readouterr()
    assert trained(run, tmp_path / "other", prepared) == eager
    assert capsys.readouterr().out == (
        "the training step is not recorded as a CUDA graph (CUDA error: operation not permitted when stream is "
        "capturing); going on without\n"
    )


def test_a_diverged_run_is_noticed_at_the_next_recorded_point(
    prepared: Path, tmp_path: Path, recording: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("copy", training={"learning_rate": 1e38, "steps": 40, "clip_norm": None})
    assert train_run(run, tmp_path, prepared, device="cpu").status == "diverged"


FORBIDDEN = {torch.tensor, torch.as_tensor, torch.from_numpy, torch.nonzero, Tensor.item, Tensor.tolist, Tensor.cpu,
             Tensor.numpy, Tensor.__float__, Tensor.__int__, Tensor.__bool__, Tensor.nonzero}  # fmt: skip


class OnDevice(TorchDispatchMode):
    """Fails where an operation on the device reads or writes a tensor of the CPU, but for numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs or {}, result)) if isinstance(x, Tensor)]
        named = any(part in str(func) for part in ("where", "fill", "index_put"))
        kinds = {x.device.type for x in tensors if x.ndim or named}
        assert kinds <= {"meta"}, f"{func}: {[(x.device, x.shape) for x in tensors]}"
        return result


class NothingRead(TorchFunctionMode):
    """Fails where Python reads a tensor or makes one of its own numbers, which on a GPU waits for it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in FORBIDDEN, func
        return func(*args, **(kwargs or {}))


def on_meta(run: RunConfig, data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> PlannedStepper:
    """The stepper of a run on a device that computes nothing, where it takes the paths of GPUs."""
    use(monkeypatch, record)
    monkeypatch.setattr(stepping, "autocast", lambda run, device: nullcontext())
    module = sys.modules["torch.optim.adam"]  # `torch.optim` hides its name
    monkeypatch.setattr(module, "_device_dtype_check_for_fused", lambda parameter: None)
    for kernel in ("_fused_adam_", "_fused_adamw_"):  # they have no form for this device
        monkeypatch.setattr(torch, kernel, lambda *arguments, **options: None)
    trainer = Trainer(run, RunFolder(folder), data, torch.device("meta"))
    stepper = trainer._stepper()
    assert isinstance(stepper, PlannedStepper)
    return stepper


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", ["reverse", "anomaly", "mnist", "cifar10", "characters", "numbers"])
def test_a_step_on_a_device_needs_nothing_of_the_cpu(
    task: str, variant: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if task == "anomaly" and variant in ("kv_offset", "pos_only", "q_mqa_apart", "mla"):
        pytest.skip("a set has no order")
    drop = {"attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1}
    stepper = on_meta(tiny_run(task, variant, model=drop), prepared, tmp_path, monkeypatch)
    stepper._upload(0)
    stepper._body()  # keeps arrays and constants
    with NothingRead(), OnDevice():
        stepper._body()


def test_the_check_above_finds_what_a_graph_cannot_record() -> None:
    x, y = torch.zeros(3, device="meta"), torch.zeros(())
    for action in (
        lambda: torch.where(x < 0.5, y, 1.0),
        lambda: torch.tensor([1.0, 2.0], device="meta"),
        lambda: x + torch.ones(3).to("meta"),
        lambda: x[torch.ones(3, dtype=torch.bool)],
        lambda: float(y),
    ):
        with pytest.raises(AssertionError), NothingRead(), OnDevice():
            action()


@pytest.mark.parametrize("options", [[], ["training.weight_decay=0.1"], ["training.optimizer=adamw"]])
def test_the_optimiser_with_planned_momentum_is_adam(options: list[str]) -> None:
    run = tiny_run("numbers", training=dict(_parsed(option) for option in options))
    models = [torch.nn.Linear(5, 3) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    plain, planned = make_optimizer(run, models[0]), make_planned_optimizer(run, models[1])
    for step, x in enumerate(torch.randn(40, 7, 5)):
        for model, optimizer in zip(models, (plain, planned), strict=True):
            optimizer.zero_grad()
            model(x).square().sum().backward()
        values = rates(step, 40, run)
        plain.param_groups[0].update(lr=values[0], betas=(values[1], run.training.betas[1]))
        planned.rates.copy_(torch.tensor(values))
        plain.step()
        planned.step()
    torch.testing.assert_close(models[0].weight, models[1].weight, rtol=1e-5, atol=1e-7)
    assert int(planned.state[models[1].weight]["step"]) == 40


def _parsed(option: str) -> tuple[str, Any]:
    key, value = option.removeprefix("training.").split("=")
    return key, float(value) if value[0].isdigit() else value


def test_rates_of_adam() -> None:
    run = tiny_run("numbers")
    rate, beta, corrected, root = rates(4, 10, run)
    assert corrected == pytest.approx(rate / (1 - beta**5)) and root == pytest.approx(
        math.sqrt(1 - run.training.betas[1] ** 5)
    )


def test_a_plan_has_the_rows_of_single_steps(prepared: Path, tmp_path: Path) -> None:
    batches = Trainer(tiny_run("reverse", **RAGGED), RunFolder(tmp_path), prepared, torch.device("cpu")).batches
    assert batches.steps_per_epoch == 5 and batches.full_size == 8
    assert [len(batches.plan(step, 64)) for step in range(5)] == [4, 3, 2, 1, 1]
    np.testing.assert_array_equal(batches.plan(5, 2), np.stack([batches.rows(5), batches.rows(6)]))


@pytest.mark.parametrize(("precision", "words"), [("tf32", "'tf32' is asked for, but the CPU has none")])
def test_a_precision_that_the_device_has_not_is_one_line(
    precision: str, words: str, prepared: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        train_run(tiny_run("copy", training={"precision": precision}), tmp_path, prepared, device="cpu")


def test_an_old_gpu_has_only_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    for precision in ("bf16", "tf32"):
        with pytest.raises(ConfigError, match=f"'{precision}' is asked for, but Tesla T4 has none; allowed: fp32"):
            set_precision(precision, torch.device("cuda"))


# On a GPU


@pytest.fixture
def exact() -> Iterator[None]:
    """As in a training process (`training.run`)."""
    yield
    torch.backends.cuda.matmul.allow_tf32 = False


@gpu
@pytest.mark.parametrize(
    ("task", "variant"),
    [*(("reverse", name) for name in VARIANTS), *((name, kind) for name in FIXED[1:] for kind in ("qkv", "kv_pos"))],
)
def test_a_graph_gives_the_bits_of_single_kernels(
    task: str, variant: str, prepared: Path, tmp_path: Path, exact: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run(task, variant, model={"mlp_dropout": 0.3, "attention_dropout": 0.1}, training={"steps": 12})
    plain = trained(run, tmp_path / "plain", prepared, "cuda", graphs=False)
    assert trained(run, tmp_path / "graph", prepared, "cuda") == plain
    assert "not recorded" not in capsys.readouterr().out


@gpu
@pytest.mark.parametrize(
    "changes",
    [
        RAGGED,
        {"training": {"steps": 2 * PLANNED + 3, "clip_norm": 0.1, "select": "best"}},
        {"training": {"precision": "bf16"}},
        {"training": {"precision": "tf32"}, "model": {"dim": 64}},
        {"data": {"length": 128, "symbols": 10}, "model": {"attention_dropout": 0.0}},
    ],
)
def test_a_graph_gives_the_bits_of_single_kernels_with_every_option(
    changes: dict[str, Any], prepared: Path, tmp_path: Path, exact: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("reverse", **changes)
    plain = trained(run, tmp_path / "plain", prepared, "cuda", graphs=False)
    assert trained(run, tmp_path / "graph", prepared, "cuda") == plain
    assert "not recorded" not in capsys.readouterr().out


@gpu
@pytest.mark.parametrize("task", ["reverse", "cifar10", "anomaly", "numbers"])
def test_an_interrupted_run_goes_on_exactly_on_a_gpu(
    task: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(task, model={"mlp_dropout": 0.3}, training={"steps": 12})
    whole = trained(run, tmp_path / "whole", prepared, "cuda")
    original, left = Trainer.train_step, [5]

    def step(self: Trainer) -> None:
        original(self)
        if left and self.state.step == left[0]:
            left.pop()
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_step", step)
    with pytest.raises(KeyboardInterrupt):
        trained(run, tmp_path / "pieces", prepared, "cuda", checkpoint_seconds=0.0)
    assert trained(run, tmp_path / "pieces", prepared, "cuda") == whole


@gpu
def test_a_step_that_reads_the_device_is_not_recorded_and_training_goes_on(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("copy", model={"mlp_dropout": 0.5})
    plain = trained(run, tmp_path / "plain", prepared, "cuda", graphs=False)
    original = PlannedStepper.learn

    def learn(self: PlannedStepper, batch: Any) -> None:
        original(self, batch)
        float(self.loss_sum)

    monkeypatch.setattr(PlannedStepper, "learn", learn)
    assert trained(run, tmp_path / "other", prepared, "cuda") == plain
    assert "the training step is not recorded as a CUDA graph" in capsys.readouterr().out
    monkeypatch.undo()
    assert trained(run, tmp_path / "again", prepared, "cuda") == plain
