"""From queries, keys and values to the mixed values: one contract, a plain reference, and two fast kernels.

    logits_ij = q_i·k_j + γ_j + r_ij + mask_ij        weights = softmax_j(logits)        output_i = Σ_j weights_ij v_j

Shapes: queries (B, H, N, h), already scaled; keys and values (B, G, M, h) with H a multiple of G: head a reads the keys
of head a·G/H. Queries and keys may be wider than values, or have no width; the logits then consist of the other parts.
key_bias γ (1 or H, M). bias r (1 or H, N, M). mask: 0 and -inf, broadcastable to (B, H, N, M). Each of these three may
be None.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kvformer.models.fast.dropout import dropout

FUSED_FROM = 96
"""Sequences of at least this length use the fused kernel; below it, explicit matrix products are faster (measured on
CPUs). All variants switch at the same length, so that timings compare variants and not kernels."""


class Recorded(NamedTuple):
    """What one attention layer did, (B, H, N, M) each: logits with masks (-inf), weights, and logits without masks."""

    logits: Tensor
    weights: Tensor
    unmasked: Tensor


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    key_bias: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    dropping: float = 0.0,
    recording: list[Recorded] | None = None,
) -> Tensor:
    """The contract, by the faster kernel. Returns (B, H, N, h).

    dropping: dropout probability of the weights. recording: a list to which logits and weights are added.
    """
    longest = max(queries.shape[2], keys.shape[2])
    content = queries.shape[-1] > 0
    if longest >= FUSED_FROM and content and not dropping and bias is None and recording is None:
        return fused(queries, keys, values, key_bias, mask)
    return explicit(queries, keys, values, key_bias, bias, mask, dropping, recording)


def reference(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    key_bias: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The contract in plain operations: what the kernels are tested against."""
    share = queries.shape[1] // keys.shape[1]
    keys, values = (part.repeat_interleave(share, dim=1) for part in (keys, values))
    logits = queries @ keys.transpose(-1, -2)
    logits = logits + (key_bias[:, None, :] if key_bias is not None else 0)
    logits = logits + (bias if bias is not None else 0) + (mask if mask is not None else 0)
    return torch.softmax(logits, dim=-1) @ values


def explicit(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    key_bias: Tensor | None,
    bias: Tensor | None,
    mask: Tensor | None,
    dropping: float = 0.0,
    recording: list[Recorded] | None = None,
) -> Tensor:
    """Matrix products with the weights in memory: quick for short sequences, and the only kernel with dropout, with a
    bias of i and j, and for recording."""
    unmasked_term = _sum(key_bias[:, None, :] if key_bias is not None else None, bias)
    term = _sum(unmasked_term, mask)
    logits = _logits(queries, keys, term)
    weights = torch.softmax(logits, dim=-1)
    if recording is not None:
        unmasked = logits if mask is None else _logits(queries, keys, unmasked_term)
        shape = (*queries.shape[:3], keys.shape[2])
        recording.append(Recorded(*(part.detach().view(shape) for part in (logits, weights, unmasked))))
    stacked = values.reshape(-1, *values.shape[2:])
    return torch.bmm(dropout(weights, dropping), stacked).view(*queries.shape[:3], -1)


def fused(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    key_bias: Tensor | None,
    mask: Tensor | None,
    multiple: int | None = None,
) -> Tensor:
    """PyTorch's fused kernel. A key bias is carried in one extra feature: [q, 1]·[k, γ] = q·k + γ. Values are filled
    up with zeros to the width of keys, which the kernel needs.

    multiple: features are then filled up with zeros to a multiple of this; default is 1 on a CPU, and 8 on a GPU, whose
    kernels need it.
    """
    grouped = queries.shape[1] != keys.shape[1]
    if key_bias is not None and len(key_bias) not in (1, keys.shape[1]):
        # Keys that several query heads share have no room for a bias of each of these heads.
        mask, key_bias = _sum(key_bias[None, :, None, :], mask), None
    width = values.shape[-1]
    if key_bias is not None:
        multiple = multiple or (1 if queries.device.type == "cpu" else 8)
        zeros = -(queries.shape[-1] + 1) % multiple
        ones = queries.new_ones(*queries.shape[:-1], 1)
        extra = key_bias[None, :, :, None].expand(keys.shape[0], keys.shape[1], -1, 1)
        queries, keys = torch.cat([queries, ones], dim=-1), torch.cat([keys, extra.to(keys.dtype)], dim=-1)
        if zeros:
            queries, keys = F.pad(queries, (0, zeros)), F.pad(keys, (0, zeros))
    if queries.shape[-1] > width:
        values = F.pad(values, (0, queries.shape[-1] - width))
    mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=1.0, enable_gqa=grouped)
    return mixed[..., :width]


def additive_mask(
    queries: Tensor, keys: Tensor, first: int, causal: bool, padding: Tensor | None, mask_self: bool
) -> Tensor | None:
    """0 where a query sees a key and -inf where it does not, broadcastable to (B, H, N, M); None if all is visible.

    first: position of the first query. padding: (B, M), True where a key is padding. mask_self: no token sees itself,
    but for those that see nothing else (the first of a causal row, or the only one that is not padding).
    """
    length, size = queries.shape[2], keys.shape[2]
    causal = causal and length > 1  # one new token sees all before it
    if not causal and not mask_self and padding is None:
        return None
    rows = torch.arange(first, first + length, device=queries.device)[:, None]
    columns = torch.arange(size, device=queries.device)[None, :]
    hidden = columns > rows if causal else torch.zeros(1, size, dtype=torch.bool, device=queries.device)
    if padding is not None:
        hidden = hidden | padding[:, None, None, :]
    if mask_self:
        itself = columns == rows
        hidden = hidden | (itself & ~(hidden | itself).all(dim=-1, keepdim=True))
    return torch.zeros(hidden.shape, dtype=queries.dtype, device=queries.device).masked_fill_(hidden, -math.inf)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other


def _logits(queries: Tensor, keys: Tensor, term: Tensor | None) -> Tensor:
    """queries·keysᵀ + term, (B·G, H/G·N, M): query heads that share a key head are stacked along the rows, so that keys
    are never copied."""
    batch, heads, length, width = queries.shape
    kv_heads, size = keys.shape[1:3]
    groups = batch * kv_heads
    stacked = queries.reshape(groups, heads // kv_heads * length, width)
    transposed = keys.reshape(groups, size, width).transpose(1, 2)
    if term is None:
        return torch.bmm(stacked, transposed)
    rows = length if kv_heads < heads else term.shape[-2]
    return torch.baddbmm(term.expand(batch, heads, rows, size).reshape(groups, -1, size), stacked, transposed)
