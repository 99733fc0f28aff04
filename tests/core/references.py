"""Attention written down from its equations, head by head and without shortcuts: what the module is compared with."""

import math
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from kvformer.models.attention import Attention, cross_attention
from kvformer.spec.sections import ModelConfig
from kvformer.spec.variants import AttentionSpec


def small_model(**changes: object) -> ModelConfig:
    """A small model with every bias, unless `changes` say otherwise."""
    return ModelConfig.model_validate({"dim": 16, "layers": 2, "heads": 4, "position_channels": 10, **changes})


def make_attention(
    spec: AttentionSpec, model: ModelConfig, length: int, seed: int = 0, cross: bool = False
) -> Attention:
    """A float64 attention module in evaluation mode, every parameter drawn at random (biases and offsets too)."""
    layer = cross_attention(spec, model, length) if cross else Attention(spec, model, length)
    attention = layer.double().eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(0, 0.4, generator=random)
    return attention


def role_parameters(attention: Attention, role: str) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the query, key or value map: rows of the fused matrix, in the order query, key, value."""
    start = 0
    for name in ("query", "key", "value"):
        rows = attention.widths.get(name, 0)
        if name == role:
            assert attention.projection is not None
            bias = attention.projection_bias
            return attention.projection[start : start + rows], None if bias is None else bias[start : start + rows]
        start += rows
    raise AssertionError(role)


def apply_map(attention: Attention, role: str, x: Tensor) -> Tensor:
    weight, bias = role_parameters(attention, role)
    return x @ weight.T + (0 if bias is None else bias)


@cache
def full_code(length: int, channels: int) -> Tensor:
    """P (n, n, m): r = 2·ceil(m/4) sine/cosine channels of the row, then as many of the column, cut to m.

    Frequencies are 10000^(-2t/r). Rounded to float32 as the module stores it.
    """
    per_axis = 2 * math.ceil(channels / 4)
    code = torch.zeros(length, length, 2 * per_axis, dtype=torch.float64)
    for position in range(length):
        for t in range(per_axis // 2):
            angle = position * 10_000.0 ** (-2 * t / per_axis)
            code[position, :, 2 * t] = math.sin(angle)
            code[position, :, 2 * t + 1] = math.cos(angle)
            code[:, position, per_axis + 2 * t] = math.sin(angle)
            code[:, position, per_axis + 2 * t + 1] = math.cos(angle)
    return code[:, :, :channels].float().double()


def naive_pos2d(scores: Tensor, weight: Tensor, bias: Tensor, code: Tensor) -> Tensor:
    """The published form: scores (…, n, k) broadcast to m channels, plus P, then a linear map m→1."""
    channels = scores[..., None] + code[: scores.shape[-2], : scores.shape[-1]]
    return channels @ weight + bias


def plain_attention(
    attention: Attention,
    x: Tensor,
    memory: Tensor | None = None,
    causal: bool = False,
    padding: Tensor | None = None,
) -> Tensor:
    """What `attention` must return for x (B, N, D), head by head."""
    weights, values = zip(*_heads(attention, x, memory, causal, padding), strict=True)
    mixed = torch.cat([w @ v for w, v in zip(weights, values, strict=True)], dim=-1)
    return mixed @ attention.output.weight.T + (0 if attention.output.bias is None else attention.output.bias)


def plain_logits(attention: Attention, x: Tensor) -> Tensor:
    """Logits of unmasked self-attention, (B, H, N, N)."""
    return torch.stack([_logits(attention, head, x, x) for head in range(attention.heads)], dim=1)


def _heads(
    attention: Attention, x: Tensor, memory: Tensor | None, causal: bool, padding: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    source = x if memory is None else memory
    for head in range(attention.heads):
        logits = _logits(attention, head, x, source)
        queries, keys = logits.shape[-2:]
        everything = torch.ones(len(x), queries, keys, dtype=torch.bool)
        hidden = everything.triu(1) if causal else ~everything
        if padding is not None:
            hidden = hidden | padding[:, None, :]
        if attention.spec.mask_self and memory is None:
            itself = torch.eye(queries, dtype=torch.bool)
            sees_others = (~hidden & ~itself).any(dim=-1, keepdim=True)
            hidden = hidden | (itself & sees_others)
        weights = torch.softmax(logits.masked_fill(hidden, -math.inf), dim=-1)
        role = "value" if attention.spec.has_value_map else "key"
        yield weights, _head(apply_map(attention, role, source), head // _group(attention), attention.head_dim)


def _logits(attention: Attention, head: int, x: Tensor, source: Tensor) -> Tensor:
    spec, width = attention.spec, attention.head_dim
    keys = _head(apply_map(attention, "key", source), head // _group(attention), width)
    if "query" in attention.widths:
        queries = _head(apply_map(attention, "query", x), head, width)
    elif spec.sharing in ("q=k", "q=k=v"):
        queries = _head(apply_map(attention, "key", x), head, width)
    elif spec.sharing == "q=I":
        queries = _head(x, head, width)
    else:
        assert attention.pair is not None
        queries = _head(apply_map(attention, "key", x), head, width) @ attention.pair[head]
    if spec.normalise_keys:
        keys = keys / keys.square().sum(dim=-1, keepdim=True).sqrt()
    scores = attention.scale * queries @ keys.transpose(-1, -2)
    term = attention.position
    if term is None:
        return scores
    length, size = scores.shape[-2:]
    channels = term.term.channels
    code = full_code(max(length, size), channels)
    columns = code[:, :, 2 * math.ceil(channels / 4) :]
    if spec.position == "relative":
        row = term.offsets[min(head, len(term.offsets) - 1)]
        centre = len(row) // 2
        return scores + row[torch.arange(length)[:, None] - torch.arange(size)[None, :] + centre]
    weight = term.weight[min(head, len(term.weight) - 1)]
    if spec.position == "gain":
        return scores * weight.sum()
    if spec.position == "key_bias":
        return scores + columns[:length, :size] @ weight
    return naive_pos2d(scores, weight, term.bias[min(head, len(term.bias) - 1)], code)


def _group(attention: Attention) -> int:
    """Query heads that read one key/value head."""
    return attention.heads // attention.kv_heads


def _head(x: Tensor, head: int, width: int) -> Tensor:
    return x[..., head * width : (head + 1) * width]
