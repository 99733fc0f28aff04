"""Units and removed parts equal the plain operations, gradients too."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kvformer.models.fast.directions import SMALLEST, unit, without


def plain_without(x: Tensor, own: Tensor) -> Tensor:
    share = (x * own).sum(-1, keepdim=True) / (own * own).sum(-1, keepdim=True).clamp_min(SMALLEST)
    return x - share * own


def drawn(*shape: int, zero: bool = False) -> Tensor:
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape) + shape[0]))
    if zero:
        x[0] = 0
        x[1] *= 1e-6  # shorter than the smallest length that counts
    return x.requires_grad_()


@pytest.mark.parametrize("zero", [False, True])
def test_without_equals_the_plain_operations(zero: bool) -> None:
    x, own = drawn(5, 3, 8), drawn(5, 3, 8, zero=zero)
    weights = drawn(5, 3, 8).detach().cos()
    fast, plain = without(x, own), plain_without(x, own)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(
        torch.autograd.grad(fast, (x, own), weights), torch.autograd.grad(plain, (x, own), weights)
    )


def test_a_unit_equals_the_plain_operation() -> None:
    x = drawn(6, 4, 8)
    weights = drawn(6, 4, 8).detach().cos()
    torch.testing.assert_close(unit(x), F.normalize(x, dim=-1))
    torch.testing.assert_close(
        torch.autograd.grad(unit(x), x, weights), torch.autograd.grad(F.normalize(x, dim=-1), x, weights)
    )


def test_both_have_the_gradients_of_their_values() -> None:
    assert torch.autograd.gradcheck(without, (drawn(4, 3), drawn(4, 3)))
    assert torch.autograd.gradcheck(unit, (drawn(4, 3),))


def test_zeros_have_no_direction() -> None:
    assert not unit(torch.zeros(2, 3)).any()
    x = torch.randn(2, 3)
    assert torch.equal(without(x, torch.zeros(2, 3)), x)
