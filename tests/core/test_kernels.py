"""Every kernel against the plain reference of the contract: outputs and gradients."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from kvformer.models.attention import FUSED_FROM, kernels
from kvformer.models.attention.kernels import additive_mask, attend, reference

CASES = list(itertools.product(["none", "layer", "head"], ["none", "causal", "padding", "causal, padding"], [4, 2, 1]))
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def random_inputs(queries: int, keys: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    sizes = ((4, queries), (kv_heads, keys), (kv_heads, keys))
    return tuple(
        torch.randn(2, heads, length, 8, dtype=torch.float64, generator=random).requires_grad_()
        for heads, length in sizes
    )  # type: ignore[return-value]


def mask_of(kind: str, queries: Tensor, keys: Tensor, first: int = 0) -> Tensor | None:
    padding = torch.zeros(2, keys.shape[2], dtype=torch.bool)
    padding[1, -2:] = True
    hidden = padding if "padding" in kind else None
    return additive_mask(queries, keys, first, "causal" in kind, hidden, mask_self=False)


def biases(kind: str, keys: int) -> Tensor | None:
    maps = {"none": 0, "layer": 1, "head": 4}[kind]
    random = torch.Generator().manual_seed(1)
    bias = torch.randn(maps, keys, dtype=torch.float64, generator=random)
    return bias.requires_grad_() if maps else None


def gradients(output: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    direction = torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return torch.autograd.grad((output * direction).sum(), inputs)


KERNELS: dict[str, Callable[..., Tensor]] = {
    "explicit": lambda q, k, v, bias, mask: kernels.explicit(q, k, v, bias, None, mask),
    "fused": kernels.fused,
    "fused, as on GPUs": partial(kernels.fused, multiple=8),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("maps", "masks", "kv_heads"), CASES)
def test_kernels_keep_the_contract(kernel: str, maps: str, masks: str, kv_heads: int) -> None:
    """Every kernel at both kinds of lengths, whichever of them `attend` would choose."""
    for queries, keys in ((6, 6), (3, 9), (FUSED_FROM, FUSED_FROM + 2)):
        tensors = random_inputs(queries, keys, kv_heads)
        key_bias = biases(maps, keys)
        mask = mask_of(masks, *tensors[:2], first=keys - queries)
        output = KERNELS[kernel](*tensors, key_bias, mask)
        expected = reference(*tensors, key_bias, None, mask)
        torch.testing.assert_close(output, expected, **TIGHT)
        wanted = tensors if key_bias is None else (*tensors, key_bias)
        for ours, theirs in zip(gradients(output, wanted), gradients(expected, wanted), strict=True):
            torch.testing.assert_close(ours, theirs, **TIGHT)


@pytest.mark.parametrize("length", [5, FUSED_FROM + 1])
@pytest.mark.parametrize("key_maps", ["none", "head"])
def test_a_bias_of_query_and_key(length: int, key_maps: str) -> None:
    tensors = random_inputs(length, length, 2)
    random = torch.Generator().manual_seed(3)
    bias = torch.randn(4, length, length, dtype=torch.float64, generator=random).requires_grad_()
    mask = mask_of("causal", *tensors[:2])
    output, expected = (kernel(*tensors, biases(key_maps, length), bias, mask) for kernel in (attend, reference))
    torch.testing.assert_close(output, expected, **TIGHT)
    for ours, theirs in zip(gradients(output, (*tensors, bias)), gradients(expected, (*tensors, bias)), strict=True):
        torch.testing.assert_close(ours, theirs, **TIGHT)


def test_recording_takes_the_explicit_kernel_and_changes_nothing() -> None:
    tensors = random_inputs(FUSED_FROM, FUSED_FROM, 4)
    mask, recording = mask_of("causal", *tensors[:2]), []
    torch.testing.assert_close(
        attend(*tensors, mask=mask, recording=recording), reference(*tensors, mask=mask), **TIGHT
    )
    (recorded,) = recording
    torch.testing.assert_close(recorded.weights, torch.softmax(recorded.logits, dim=-1), **TIGHT)
    assert torch.isfinite(recorded.unmasked).all() and not torch.isfinite(recorded.logits).all()


def test_masks_by_hand() -> None:
    """One row of the batch has its last key hidden; a token does not see itself unless it sees nothing else."""
    queries = torch.zeros(2, 1, 3, 4)
    padding = torch.tensor([[False, False, False], [False, True, True]])
    seen = additive_mask(queries, queries, 0, True, padding, mask_self=True)
    assert seen is not None
    assert (seen == 0).int().tolist() == [
        [[[1, 0, 0], [1, 0, 0], [1, 1, 0]]],
        [[[1, 0, 0], [1, 0, 0], [1, 0, 0]]],
    ]
    assert additive_mask(queries[:, :, :1], queries, 2, True, None, mask_self=False) is None, "a new token sees all"
