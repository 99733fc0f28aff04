"""Linear maps by oneDNN, compared with PyTorch's own."""

import platform
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kvformer.models.fast import linear as module
from kvformer.models.fast.linear import WORTHWHILE, Linear, linear

onednn = pytest.mark.skipif(not module._available, reason="PyTorch has no oneDNN product for this processor")


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
