"""Linear maps by oneDNN, compared with PyTorch's own."""

import itertools
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from runs import keep_linear, tiny_run
from torch import Tensor

from kvformer.files import read_json
from kvformer.locks import hold
from kvformer.models.fast import linear as module
from kvformer.models.fast.linear import (
    LIBRARIES,
    SIZES,
    SLOWER,
    TURNS,
    WORTHWHILE,
    Linear,
    best,
    library,
    linear,
    measured,
    use,
)
from kvformer.records.linear import LINEAR, LinearChoices
from kvformer.training import linear_maps
from kvformer.training.linear_maps import machine, settle_linear
from kvformer.training.run import train_run

onednn = pytest.mark.skipif(not module._available, reason="PyTorch has no oneDNN product for this processor")


@pytest.fixture(autouse=True)
def default() -> Iterator[None]:
    """As before anything was measured."""
    use("oneDNN")
    yield
    use("oneDNN")


def tensors(rows: tuple[int, ...], width: int, outputs: int, bias: bool = True) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    sizes = [(*rows, width), (outputs, width), *([(outputs,)] if bias else [])]
    return [torch.randn(size, generator=random).requires_grad_() for size in sizes]


@onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(16, 64), (1024,)])
def test_large_products_are_pytorchs_up_to_rounding(rows: tuple[int, ...], bias: bool) -> None:
    arguments = tensors(rows, 64, 96, bias)
    output = linear(*arguments)
    assert output.grad_fn is not None and "OneDNN" in output.grad_fn.name()
    expected = F.linear(*arguments)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    change = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    gradients, right = (torch.autograd.grad(y, arguments, change) for y in (output, expected))
    torch.testing.assert_close(gradients, right, atol=1e-4, rtol=1e-5)
    assert [g.stride() for g in gradients] == [g.stride() for g in right]


@onednn
def test_inputs_and_gradients_need_not_be_contiguous() -> None:
    x, weight, bias = tensors((64, 8, 200), 64, 64)
    (actual, right) = (f(x[:, 2].transpose(0, 1), weight[:48], bias[:48]) for f in (linear, F.linear))
    assert actual.grad_fn is not None and "OneDNN" in actual.grad_fn.name()
    torch.testing.assert_close(actual, right, atol=1e-5, rtol=1e-5)
    for y in (actual, right):  # the gradient of a sum has stride 0
        y.sum().backward()
        y.gradients = [tensor.grad for tensor in (x, weight, bias)]
        x.grad = weight.grad = bias.grad = None
    torch.testing.assert_close(actual.gradients, right.gradients, atol=2e-3, rtol=1e-5)


@onednn
def test_equal_calls_give_equal_bits_and_frozen_parts_get_no_gradient() -> None:
    x, weight, bias = tensors((1024,), 64, 128)
    assert torch.equal(linear(x, weight, bias), linear(x, weight, bias))
    assert not linear(x.detach(), weight.detach(), bias.detach()).requires_grad
    linear(x.detach(), weight, None).square().sum().backward()
    assert x.grad is None and weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_and_small_products_are_pytorchs_to_the_bit(dtype: torch.dtype) -> None:
    small = tensors((16,), 64, 64)
    assert small[0].numel() * 64 < WORTHWHILE
    assert torch.equal(linear(*small), F.linear(*small))
    large = [tensor.detach().to(dtype) for tensor in tensors((1024,), 64, 96)]
    assert torch.equal(linear(*large), F.linear(*large))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(*tensors((1024,), 64, 96)).dtype == torch.bfloat16


def test_the_layer_is_a_linear_layer() -> None:
    layer = Linear(64, 96)
    assert isinstance(layer, torch.nn.Linear)
    x = torch.randn(1024, 64)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5, rtol=1e-5)


@onednn
@pytest.mark.parametrize("name", LIBRARIES)
def test_the_chosen_library_computes(name: str) -> None:
    use(name)
    least = LIBRARIES[name]
    for outputs in (64, 128, 1024):
        arguments = tensors((1024,), 64, outputs)
        by_onednn = least is not None and 1024 * 64 * outputs >= least
        assert ("OneDNN" in str(linear(*arguments).grad_fn)) == by_onednn


def clock(seconds: Callable[[int], tuple[float, float]]) -> Callable[[], float]:
    """A clock by which oneDNN and PyTorch take this long, by the place of the size."""
    pairs = [seconds(place) for _ in range(TURNS) for place in range(len(SIZES))]
    durations = (part for pair in pairs for duration in pair for part in (0.0, duration))
    return itertools.accumulate(durations).__next__


@onednn
@pytest.mark.parametrize(
    ("small", "large", "chosen"),
    [
        (0.6, 0.5, "oneDNN"),
        (1.05, 1.05, "oneDNN"),
        (1.3, 1.0, "oneDNN for large maps"),
        (1.3, 1.2, "PyTorch"),
        (0.9, 1.2, "PyTorch"),
    ],
)
def test_the_library_that_is_clearly_slower_is_left_on_a_busy_machine(small: float, large: float, chosen: str) -> None:
    """Other programs make most turns longer, by any factor; a difference below a tenth changes nothing."""
    random = np.random.default_rng(0)

    def seconds(place: int) -> tuple[float, float]:
        slow, fast = np.where(random.random(2) < 0.8, 1 + random.exponential(5, 2), 1)
        return (small, large)[place] * slow, fast

    torch.set_num_threads(2)
    ratios = measured(clock(seconds))
    assert torch.get_num_threads() == 2
    assert ratios == pytest.approx(dict(zip(SIZES, (small, large), strict=True)))
    assert best(ratios) == chosen and SLOWER == 1.1


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """What the next measurements find."""
    found = [dict.fromkeys(SIZES, ratio) for ratio in (0.5, 2.0)]
    monkeypatch.setattr(module, "measured", lambda: found.pop())
    monkeypatch.setattr(module, "_available", True)
    return found


def test_it_is_measured_once_per_kind_of_machine(
    tmp_path: Path, measurements: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_linear(tmp_path)
    assert library() == "PyTorch" and len(measurements) == 1
    use("oneDNN")
    settle_linear(tmp_path)
    assert library() == "PyTorch" and len(measurements) == 1
    monkeypatch.setattr(linear_maps, "processor", lambda: "another one")
    settle_linear(tmp_path)
    assert library() == "oneDNN" and not measurements
    choices = LinearChoices.load(tmp_path / LINEAR).choices
    assert [choice.library for choice in choices.values()] == ["PyTorch", "oneDNN"]
    assert choices[machine()].ratios == dict.fromkeys(SIZES, 0.5) and choices[machine()].time


def test_a_process_that_waited_for_another_one_reads_its_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measurements: list[dict[str, float]]
) -> None:
    @contextmanager
    def waits(path: Path, timeout: float, what: str) -> Iterator[None]:
        keep_linear(tmp_path, "oneDNN for large maps")
        with hold(path, timeout, what):
            yield

    monkeypatch.setattr(linear_maps, "hold", waits)
    settle_linear(tmp_path)
    assert library() == "oneDNN for large maps" and len(measurements) == 2


@pytest.mark.parametrize("content", ["", "{", '{"choices": 3}', "unknown"])
def test_a_file_that_says_nothing_is_written_again(
    content: str, tmp_path: Path, measurements: list[dict[str, float]]
) -> None:
    file = tmp_path / LINEAR
    if content == "unknown":
        keep_linear(tmp_path, "of a later version")
    else:
        file.write_text(content)
    settle_linear(tmp_path)
    assert library() == LinearChoices.load(file).choices[machine()].library == "PyTorch"


def test_where_nothing_can_be_kept_it_is_the_default_and_one_line(
    tmp_path: Path, measurements: list[dict[str, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    use("PyTorch")
    settle_linear(tmp_path / "file" / "data")
    said = capsys.readouterr().out
    assert said.startswith("linear maps use oneDNN: which library is faster here cannot be kept (")
    assert said.count("\n") == 1 and library() == "oneDNN" and len(measurements) == 2


def test_other_processors_have_no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_available", False)
    settle_linear(tmp_path / "data")
    use("oneDNN")
    assert library() == "PyTorch" and not (tmp_path / "data").exists()


@onednn
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_run_says_which_library_it_used(name: str, tmp_path: Path) -> None:
    keep_linear(tmp_path, name)
    train_run(tiny_run("copy", training={"steps": 1}), tmp_path / "run", tmp_path, device="cpu")
    assert read_json(tmp_path / "run" / "provenance.json")["linear"] == library() == name


MEMORY = """
import resource, torch
from kvformer.models.fast.memory import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
keep_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
def test_large_tensors_reuse_the_memory_of_earlier_ones() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 10
