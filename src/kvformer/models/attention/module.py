"""The one attention module: an `AttentionSpec` says what it computes, a `ModelConfig` gives sizes and details.

Shapes: B batch, H heads, G key/value heads, N queries, M keys, D model width, h = D/H head width, m position channels.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kvformer.models.attention.cache import KeysValues, KeyValueCache
from kvformer.models.attention.terms import PositionTerm, Stream
from kvformer.models.fast.dropout import dropout
from kvformer.models.fast.linear import Linear, linear
from kvformer.spec.formulas import has_query_map
from kvformer.spec.sections import ModelConfig
from kvformer.spec.variants import AttentionSpec

FUSED_FROM = 96
"""Sequences at least this long use the fused kernel; below it, explicit matrix products are faster (on CPUs, both
measured). All variants switch at the same length, so that timings compare variants and not kernels."""


class Recorded(NamedTuple):
    """What one attention layer did, (B, H, N, M) each: logits with masks (-inf) and without, and weights."""

    logits: Tensor
    weights: Tensor
    unmasked: Tensor


class Attention(nn.Module):
    """Multi-head attention, self or cross, causal or not, for every variant.

    spec: the variant. model: sizes and details. max_length: longest key sequence. cross: keys and values come from a
        memory.
    owns_keys_values: False for a layer that reads keys and values of a layer below it.
    """

    def __init__(
        self,
        spec: AttentionSpec,
        model: ModelConfig,
        max_length: int,
        cross: bool = False,
        owns_keys_values: bool = True,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.heads, self.head_dim = model.heads, model.head_dim
        self.kv_heads = spec.kv_heads or model.heads
        self.scale = 1 / math.sqrt(model.head_dim if model.scale == "head" else model.dim)
        self.dropout = model.attention_dropout
        self.cross = cross
        self.owns_keys_values = owns_keys_values
        self.query_role = "query" if has_query_map(spec, model, cross) else "key"
        self.published_lengths = cross and spec.query_is_key and model.cross_query == "published"
        widths = {"query": model.dim if self.query_role == "query" else 0}
        if owns_keys_values:
            kv_dim = self.kv_heads * self.head_dim
            widths |= {"key": kv_dim, "value": kv_dim if spec.has_value_map else 0}
        self.widths = {role: width for role, width in widths.items() if width}
        # One fused matrix for all projections: rows of the query map, then of the key map, then of the value map.
        total = sum(self.widths.values())
        self.projection = nn.Parameter(torch.empty(total, model.dim)) if total else None
        self.projection_bias = nn.Parameter(torch.empty(total)) if total and model.projection_bias else None
        self.pair = (
            nn.Parameter(torch.empty(self.heads, self.head_dim, self.head_dim)) if spec.sharing == "pairwise" else None
        )
        self.position = PositionTerm(spec, model, max_length) if spec.position != "none" else None
        self.output = Linear(model.dim, model.dim, bias=model.output_bias)
        self.recording: list[Recorded] | None = None

    def initialise(self, scheme: str, stream: Stream) -> None:
        """Draw the projections; the same role gets the same draws in every variant, up to the scheme's bound."""
        if self.projection is None:
            return
        total, width = self.projection.shape
        with torch.no_grad():
            start = 0
            for role, rows in self.widths.items():
                fan_out = total if scheme == "xavier_fused" else rows
                bound = 1 / math.sqrt(width) if scheme == "default" else math.sqrt(6 / (width + fan_out))
                self.projection[start : start + rows].uniform_(-bound, bound, generator=stream(role))
                if self.projection_bias is not None:
                    bias = self.projection_bias[start : start + rows]
                    if scheme in ("xavier_attention", "xavier_fused"):
                        bias.zero_()
                    else:
                        bias.uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width), generator=stream(f"{role} bias"))
                start += rows
            if self.pair is not None:
                self.pair.normal_(0, 1 / math.sqrt(self.head_dim), generator=stream("pair"))

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        causal: bool = False,
        padding: Tensor | None = None,
        shared: KeysValues | None = None,
        cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """Attend from x (B, N, D) to itself, or to `memory` (B, M, D).

        causal: query i sees keys up to i. padding: (B, M), True where a key is padding. shared: keys and values of the
        owning layer below, for layers without their own. cache: earlier tokens of an incremental decoder; x then holds
        only the new ones (in cross-attention the memory is projected once). Returns the output (B, N, D) and the keys
        and values attended to.
        """
        offset = 0
        if cache is not None:
            offset, cache.queried = cache.queried, cache.queried + x.shape[1]
        queries, new = self._project(x, memory, cache)
        if shared is not None:
            offset = shared.keys.shape[2] - x.shape[1]
            attended = shared
        elif new is None:
            assert cache is not None
            attended = cache.content
        else:
            attended = cache.append(new) if cache is not None else new
        if self.pair is not None:
            queries = queries @ self.pair
        mixed = self._attend(queries, attended, causal, offset, padding)
        merged = mixed.transpose(1, 2).flatten(2)  # (B, N, D)
        return self.output(merged), attended

    def _project(
        self, x: Tensor, memory: Tensor | None, cache: KeyValueCache | None
    ) -> tuple[Tensor, KeysValues | None]:
        """Queries (B, H, N, h), and new keys and values (None where a layer below or a filled cache has them)."""
        if not self.cross:
            parts = self._maps(x, tuple(self.widths))
        else:
            parts = self._maps(x, (self.query_role,)) if self.spec.sharing != "q=I" else {}
            queries = parts.get(self.query_role)
            filled = cache is not None and cache.length
            parts = {} if filled else self._maps(memory, ("key", "value"))  # type: ignore[arg-type]
            if self.published_lengths and cache is None and x.shape[1] == memory.shape[1]:  # type: ignore[union-attr]
                queries = parts["key"]
            if queries is not None:
                parts["query"] = queries
        keys = parts.get("key")
        new = None
        if keys is not None and self.owns_keys_values:
            new = KeysValues(F.normalize(keys, dim=-1) if self.spec.normalise_keys else keys, parts.get("value", keys))
        queries = parts.get("query", keys)
        if self.spec.sharing == "q=I":
            queries = self._split(x)
        assert queries is not None
        return queries, new

    def _maps(self, x: Tensor, roles: tuple[str, ...]) -> dict[str, Tensor]:
        """The projections of x with these (neighbouring) roles, each (B, heads, N, h)."""
        roles = tuple(role for role in roles if role in self.widths)
        if not roles:
            return {}
        assert self.projection is not None
        names = list(self.widths)
        start = sum(self.widths[name] for name in names[: names.index(roles[0])])
        rows = slice(start, start + sum(self.widths[role] for role in roles))
        bias = self.projection_bias[rows] if self.projection_bias is not None else None
        fused = linear(x, self.projection[rows], bias)
        split = fused.split([self.widths[role] for role in roles], dim=-1)
        return {role: self._split(part) for role, part in zip(roles, split, strict=True)}

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, N, h)

    def _attend(
        self, queries: Tensor, attended: KeysValues, causal: bool, offset: int, padding: Tensor | None
    ) -> Tensor:
        """softmax(logits + terms)·values, (B, H, N, h)."""
        length, size = queries.shape[2], attended.keys.shape[2]
        gain = self.position.gain() if self.position is not None else None
        queries = queries * (self.scale if gain is None else self.scale * gain[:, None, None])
        key_bias = self.position.key_bias(size) if self.position is not None else None
        relative = self.position.relative_bias(length, size, offset) if self.position is not None else None
        mask = self._mask(length, size, causal, offset, padding, queries)
        dropping = self.dropout if self.training else 0.0
        if max(length, size) >= FUSED_FROM and not dropping and relative is None and self.recording is None:
            return _fused(queries, attended, key_bias, mask)
        bias = relative if key_bias is None else key_bias[:, None, :]
        term = mask if bias is None else bias if mask is None else bias + mask
        logits = self._logits(queries, attended.keys, term)
        weights = torch.softmax(logits, dim=-1)
        if self.recording is not None:
            unmasked = logits if mask is None else self._logits(queries, attended.keys, bias)
            shape = (*queries.shape[:3], size)
            self.recording.append(Recorded(*(part.detach().view(shape) for part in (logits, weights, unmasked))))
        values = attended.values.reshape(-1, size, self.head_dim)
        return torch.bmm(dropout(weights, dropping), values).view(queries.shape)

    def _logits(self, queries: Tensor, keys: Tensor, term: Tensor | None) -> Tensor:
        """queries·keysᵀ + term, (B·G, H/G·N, M): query heads that share a key head are stacked along the rows, so that
        keys are never copied."""
        batch, heads, length, width = queries.shape
        size, groups = keys.shape[2], batch * self.kv_heads
        stacked = queries.reshape(groups, -1, width)
        transposed = keys.reshape(groups, size, width).transpose(1, 2)
        if term is None:
            return torch.bmm(stacked, transposed)
        rows = length if self.kv_heads < heads else term.shape[-2]
        return torch.baddbmm(term.expand(batch, heads, rows, size).reshape(groups, -1, size), stacked, transposed)

    def _mask(
        self, length: int, size: int, causal: bool, offset: int, padding: Tensor | None, like: Tensor
    ) -> Tensor | None:
        """Additive mask of 0 and -inf, broadcastable to (B, H, N, M); None where everything is visible."""
        mask_self = self.spec.mask_self and not self.cross
        causal = causal and length > 1  # one new token sees all before it
        if not causal and not mask_self and padding is None:
            return None
        rows = torch.arange(offset, offset + length, device=like.device)[:, None]
        columns = torch.arange(size, device=like.device)[None, :]
        hidden = columns > rows if causal else torch.zeros(1, size, dtype=torch.bool, device=like.device)
        if padding is not None:
            hidden = hidden | padding[:, None, None, :]
        if mask_self:
            # A token that sees nothing but itself (the first of a causal row, or the only one that is not padding)
            # keeps doing so.
            itself = columns == rows
            hidden = hidden | (itself & ~(hidden | itself).all(dim=-1, keepdim=True))
        return torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(hidden, -math.inf)


def _fused(queries: Tensor, attended: KeysValues, key_bias: Tensor | None, mask: Tensor | None) -> Tensor:
    """The same by PyTorch's fused kernel. A key bias rides in one more feature: [s·c·q, 1]·[k, γ] = s·c·q·k + γ."""
    keys, values = attended
    grouped = queries.shape[1] != keys.shape[1]
    if key_bias is not None and len(key_bias) not in (1, keys.shape[1]):
        # A bias of each query head cannot ride on keys that several of them share.
        bias = key_bias[None, :, None, :]
        mask, key_bias = bias if mask is None else mask + bias, None
    width = queries.shape[-1]
    if key_bias is not None:
        ones = queries.new_ones(*queries.shape[:-1], 1)
        bias = key_bias[None, :, :, None].expand(keys.shape[0], keys.shape[1], -1, 1)
        queries, keys = torch.cat([queries, ones], dim=-1), torch.cat([keys, bias.to(keys.dtype)], dim=-1)
        values = F.pad(values, (0, 1))
    mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=1.0, enable_gqa=grouped)
    return mixed[..., :width]
