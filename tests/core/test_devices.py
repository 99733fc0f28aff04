"""Training on GPUs and with the compiler gives the CPU's results, up to rounding."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import results, tiny_run

from kvformer.files import read_json
from kvformer.tasks import TASKS
from kvformer.training.run import train_run

gpu = pytest.mark.gpu
compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def losses(folder: Path) -> list[float]:
    return [point["value"] for point in results(folder)["points"] if point["key"].endswith("/loss")]


def both(run: Any, data: Path, tmp_path: Path, device: str, **options: Any) -> tuple[list[float], list[float]]:
    """Losses of a plain run on the CPU, and of the same run with this device and these options."""
    train_run(run, tmp_path / "plain", data, device="cpu")
    train_run(run, tmp_path / "other", data, device=device, **options)
    return losses(tmp_path / "plain"), losses(tmp_path / "other")


@gpu
@pytest.mark.parametrize("variant", ["qkv", "kv_pos", "k"])
@pytest.mark.parametrize("task", TASKS)
def test_a_gpu_trains_as_the_cpu_does(task: str, variant: str, prepared: Path, tmp_path: Path) -> None:
    plain, other = both(tiny_run(task, variant), prepared, tmp_path, "cuda")
    assert other[0] == pytest.approx(plain[0], rel=0.2)  # dropout and augmentation use the random numbers of the device
    assert all(torch.isfinite(torch.tensor(other)))
    assert read_json(tmp_path / "other" / "provenance.json")["gpu"]


@gpu
def test_bf16_on_a_gpu(prepared: Path, tmp_path: Path) -> None:
    run = tiny_run("copy", training={"precision": "bf16"})
    train_run(run, tmp_path, prepared, device="cuda")
    assert read_json(tmp_path / "provenance.json")["precision"] == "bf16"


@compiler
@pytest.mark.parametrize(
    ("device", "mode"),
    [
        ("cpu", "default"),
        pytest.param("cuda", "default", marks=gpu),
        pytest.param("cuda", "reduce-overhead", marks=gpu),
    ],
)
def test_a_compiled_run_equals_the_plain_one(device: str, mode: str, prepared: Path, tmp_path: Path) -> None:
    quiet = dict.fromkeys(
        ("embedding_dropout", "attention_dropout", "attention_output_dropout", "mlp_dropout", "mlp_output_dropout",
         "head_dropout"), 0.0
    )  # fmt: skip
    run = tiny_run("copy", "kv_pos", model={"layers": 1, **quiet})
    plain, other = both(run, prepared, tmp_path, device, compiler_mode=mode)
    assert other == pytest.approx(plain, rel=1e-3)
    assert read_json(tmp_path / "other" / "provenance.json")["compile"] == mode
    assert read_json(tmp_path / "plain" / "provenance.json")["compile"] is None
