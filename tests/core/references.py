"""Attention written down from its equations, head by head and without shortcuts: what the module is compared with."""

import math
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
    frozen = role in attention.frozen_rows
    rows = (attention.frozen_rows if frozen else attention.rows)[role]
    weight = attention.frozen_projection if frozen else attention.projection
    bias = attention.frozen_bias if frozen else attention.projection_bias
    assert weight is not None
    return weight[rows], None if bias is None else bias[rows]


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
    outputs = []
    for head in range(attention.heads):
        weights, values = _weights_values(attention, head, x, memory, causal, padding)
        outputs.append(_output(attention, head, x, weights @ values, values))
    mixed = torch.cat(outputs, dim=-1)
    gate = getattr(attention, "gate", None)
    if gate is not None:
        gates = torch.sigmoid(x @ gate.weight.T + (gate.bias if gate.term.biased else 0))
        mixed = mixed * gates.repeat_interleave(mixed.shape[-1] // gates.shape[-1], dim=-1)
    return mixed @ attention.output.weight.T + (0 if attention.output.bias is None else attention.output.bias)


def plain_logits(attention: Attention, x: Tensor) -> Tensor:
    """Logits of unmasked self-attention, (B, H, N, N)."""
    return torch.stack([_logits(attention, head, x, x) for head in range(attention.heads)], dim=1)


def _weights_values(
    attention: Attention, head: int, x: Tensor, memory: Tensor | None, causal: bool, padding: Tensor | None
) -> tuple[Tensor, Tensor]:
    source = x if memory is None else memory
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
    return torch.softmax(logits.masked_fill(hidden, -math.inf), dim=-1), _values(attention, head, source)


def _values(attention: Attention, head: int, source: Tensor) -> Tensor:
    spec = attention.spec
    if spec.sharing == "v=I":
        return _head(source, head, attention.head_dim)
    if spec.latents:
        return _latent(attention, head, source) @ attention.rotary.up_value[head].T
    if not spec.values_are_keys:
        return _of_map(attention, "value", source, head // _group(attention))
    keys = _normed(attention, "key", _of_map(attention, "key", source, head // _group(attention)))
    rotary = getattr(attention, "rotary", None)
    return rotated(rotary, keys) if rotary is not None and rotary.term.when == "back" else keys


def _output(attention: Attention, head: int, x: Tensor, mixed: Tensor, values: Tensor) -> Tensor:
    if hasattr(attention, "exclusive"):
        along = (mixed * values).sum(dim=-1, keepdim=True) / values.square().sum(dim=-1, keepdim=True)
        mixed = mixed - along * values
    rotary = getattr(attention, "rotary", None)
    return rotated(rotary, mixed, sign=-1) if rotary is not None and rotary.term.when == "back" else mixed


def _logits(attention: Attention, head: int, x: Tensor, source: Tensor) -> Tensor:
    spec = attention.spec
    length, size = x.shape[1], source.shape[1]
    scores = torch.zeros(len(x), length, size, dtype=x.dtype)
    if spec.scores not in ("position", "uniform"):
        scores = attention.scale * _queries(attention, head, x) @ _keys(attention, head, source).transpose(-1, -2)
    penalty = torch.zeros(length, size, dtype=x.dtype)
    if hasattr(attention, "alibi"):
        distance = (torch.arange(length)[:, None] - torch.arange(size)[None, :]).abs()
        penalty = -(2.0 ** (-8 * (head + 1) / attention.heads)) * distance
    return _with_term(attention, head, scores) + penalty


def _with_term(attention: Attention, head: int, scores: Tensor) -> Tensor:
    """The logits with the variant's own term on them."""
    spec, term = attention.spec, getattr(attention, "position", None)
    length, size = scores.shape[-2:]
    if term is None:
        return scores
    channels = term.term.channels
    code = full_code(max(length, size), channels)
    columns = code[:, :, 2 * math.ceil(channels / 4) :]
    if spec.position == "relative" or spec.scores == "position":
        row = term.offsets[min(head, len(term.offsets) - 1)]
        centre = len(row) // 2
        return scores + channels * row[torch.arange(length)[:, None] - torch.arange(size)[None, :] + centre]
    weight = term.weight[min(head, len(term.weight) - 1)]
    if spec.position == "gain":
        return scores * weight.sum()
    if spec.position == "key_bias":
        return scores + columns[:length, :size] @ weight
    return naive_pos2d(scores, weight, term.bias[min(head, len(term.bias) - 1)], code)


def _queries(attention: Attention, head: int, x: Tensor) -> Tensor:
    spec, width = attention.spec, attention.head_dim
    if spec.scores == "static":
        assert attention.learned_query is not None
        queries = attention.learned_query[head].expand(len(x), x.shape[1], width)
    elif "query" in attention.widths:
        queries = _head(apply_map(attention, "query", x), head, attention.widths["query"] // attention.heads)
    elif spec.sharing == "q=I":
        queries = _head(x, head, width)
    else:
        queries = _of_map(attention, "key", x, head // _group(attention))
    if attention.pair is not None:
        queries = queries @ attention.pair[head]
    queries = _normed(attention, "query", queries)
    turn = getattr(attention, "turn", None)
    if turn is not None and "query" not in attention.widths:
        factors = {
            "phase": lambda: torch.polar(torch.ones_like(turn.angle), turn.angle),
            "scale": lambda: turn.scale + 0j,
            "complex": lambda: turn.factor[..., 0] + 1j * turn.factor[..., 1],
        }
        queries = _times(queries, factors[spec.turn]()[head])
    if spec.rotates_apart:
        content = queries.shape[-1] - width // 2
        return torch.cat([queries[..., :content], rotated(attention.rotary, queries[..., content:])], dim=-1)
    return rotated(attention.rotary, queries) if hasattr(attention, "rotary") else queries


def _keys(attention: Attention, head: int, source: Tensor) -> Tensor:
    spec, width = attention.spec, attention.head_dim
    if spec.rotates_apart:
        own = head // _group(attention) if spec.rotary == "apart" else 0
        part = _head(apply_map(attention, "rotary", source), own, width // 2)
        if spec.latents:
            content = _latent(attention, head, source) @ attention.rotary.up_key[head].T
        else:
            content = _values(attention, head, source)[..., : width // 2]
        return torch.cat([content, rotated(attention.rotary, part)], dim=-1)
    if spec.sharing == "k=I":
        keys = _head(source, head, width)
    else:
        keys = _of_map(attention, "key", source, head // _group(attention))
    keys = _normed(attention, "key", keys)
    if hasattr(attention, "offset"):
        before = torch.cat([keys[:, :1], keys[:, :-1]], dim=1)
        keys = torch.cat([keys[..., : width // 2], before[..., width // 2 :]], dim=-1)
    if hasattr(attention, "rotary"):
        keys = rotated(attention.rotary, keys)
    return keys / keys.square().sum(dim=-1, keepdim=True).sqrt() if spec.normalise_keys else keys


def _latent(attention: Attention, head: int, source: Tensor) -> Tensor:
    """The normed latent that a head's keys and values are expanded from."""
    latents, width = attention.rotary.scale.shape
    own = head // (attention.heads // latents)
    latent = _head(apply_map(attention, "latent", source), own, width)
    return attention.rotary.scale[own] * latent / (latent.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()


def _normed(attention: Attention, name: str, x: Tensor) -> Tensor:
    norm = getattr(attention, "norm", None)
    if norm is None:
        return x
    x = x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    if not norm.term.scaled:
        return x
    return x * getattr(norm, name if hasattr(norm, name) else "key")


def rotated(rotary: torch.nn.Module, x: Tensor, sign: int = 1) -> Tensor:
    """x (B, N, h) with pair t at position i times e^(±i·θ_t), θ_t = base^(-2t/r), for the first r/2 pairs."""
    width = rotary.term.rotated
    frequencies = rotary.term.base ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width)
    angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequencies
    # Cosine and sine are stored in float32.
    factors = angles.cos().float().double() + 1j * sign * angles.sin().float().double()
    return torch.cat([_times(x[..., :width], factors), x[..., width:]], dim=-1)


def _times(x: Tensor, factors: Tensor) -> Tensor:
    """The pairs of x as complex numbers, times factors."""
    product = (x[..., 0::2] + 1j * x[..., 1::2]) * factors
    return torch.stack([product.real, product.imag], dim=-1).flatten(-2)


def _of_map(attention: Attention, role: str, x: Tensor, head: int) -> Tensor:
    return _head(apply_map(attention, role, x), head, attention.head_dim)


def _group(attention: Attention) -> int:
    """Query heads that read one key/value head."""
    return attention.heads // (attention.spec.kv_heads or attention.heads)


def _head(x: Tensor, head: int, width: int) -> Tensor:
    return x[..., head * width : (head + 1) * width]


def logits_of(attention: Attention, x: Tensor) -> Tensor:
    """Recorded logits without masks, (B, H, N, N)."""
    attention.recording = []
    attention(x)
    return attention.recording[0].unmasked


def random_input(length: int, dim: int = 16, batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, length, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
