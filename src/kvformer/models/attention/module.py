"""Multi-head self-attention for every variant.

The idea of the paper is in `spec.projections.SHARING`: which map makes queries, keys and values. qkv has three maps; in
kv the keys are the queries, too. Everything else that variants do is a term (`spec.terms`).

Shapes: B batch, H heads, G key/value heads, N queries, M keys, D model width, h = D/H head width.
"""

import itertools
import math

import torch
from torch import Tensor, nn

from kvformer.models.attention.cache import KeysValues, KeyValueCache
from kvformer.models.attention.kernels import Recorded, additive_mask, attend
from kvformer.models.attention.term_module import TermModule, add_up
from kvformer.models.fast.directions import unit
from kvformer.models.fast.linear import Linear, linear
from kvformer.spec.projections import INPUT, LEARNED, NONE, frozen_maps, layer_maps, projection_shapes, query_width
from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms import Span, Stream, draw_map, layer_terms
from kvformer.spec.variants import AttentionSpec

Projected = dict[str, Tensor]
"""The projections of an input by the names of their maps, each (B, heads, N, h)."""


class Attention(nn.Module):
    """Self-attention, causal or not.

    spec: the variant. model: sizes and details. max_length: longest key sequence. owns_keys_values: False for a layer
    that uses the keys and values of a layer below it.
    """

    cross = False

    def __init__(self, spec: AttentionSpec, model: ModelConfig, max_length: int, owns_keys_values: bool = True) -> None:
        super().__init__()
        self.spec = spec
        self.heads, self.head_dim = model.heads, model.head_dim
        self.scale = 1 / math.sqrt(query_width(spec, model) if model.scale == "head" else model.dim)
        self.dropout = model.attention_dropout
        self.owns_keys_values = owns_keys_values
        self.maps = layer_maps(spec, model, self.cross)
        self.shapes = projection_shapes(spec, model, owns_keys_values, self.cross)
        self.widths = {name: heads * width for name, (heads, width) in self.shapes.items()}
        frozen = frozen_maps(spec)
        self.rows = _rows({name: rows for name, rows in self.widths.items() if name not in frozen})
        self.projection, self.projection_bias = _matrix(self.rows, model)
        self.frozen_rows = _rows({name: rows for name, rows in self.widths.items() if name in frozen})
        self.frozen_projection, self.frozen_bias = _matrix(self.frozen_rows, model, trained=False)
        per_head = (self.heads, self.head_dim)
        self.pair = nn.Parameter(torch.empty(*per_head, self.head_dim)) if spec.sharing == "pairwise" else None
        self.learned_query = nn.Parameter(torch.empty(per_head)) if self.maps.query == LEARNED else None
        terms = layer_terms(spec, model, max_length, self.cross, owns_keys_values)
        self.terms = [(term, TermModule(term)) for term in terms.values()]
        """Terms with their parameters `p`, in the order in which they act."""
        for name, (_, parameters) in zip(terms, self.terms, strict=True):
            self.add_module(name, parameters)
        self.output = Linear(model.dim, model.dim, bias=model.output_bias)
        self.recording: list[Recorded] | None = None

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        causal: bool = False,
        padding: Tensor | None = None,
        shared: KeysValues | None = None,
        cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """Attend from x (B, N, D) to itself.

        memory: (B, M, D), for cross-attention only. causal: query i sees keys up to i. padding: (B, M), True where a
        key is padding. shared: keys and values of the owning layer below, for layers without their own. cache: earlier
        tokens of an incremental decoder; x then holds only the new ones. Returns the output (B, N, D) and the keys and
        values as they are stored.
        """
        # Queries (B, H, N, h) of x, and keys and values (B, G, M, h) of all that they may attend to.
        queries, stored, first = self.project(x, memory, shared, cache)
        keys, values = stored
        for term, p in self.terms:
            keys, values = term.read(p, keys, values)

        # Logits s·c·q_i·k_j + γ_j + r_ij. The scale is applied to the queries.
        span = Span(first, queries.shape[2], keys.shape[2], causal)
        gain, key_bias, bias = add_up(self.terms, span)
        queries = queries * (self.scale if gain is None else self.scale * gain[:, None, None])

        # Softmax over the keys that a query sees, and the weighted mean of the values.
        mask = additive_mask(queries, keys, first, causal, padding, self.spec.mask_self and not self.cross)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(queries, keys, values, key_bias, bias, mask, dropout, self.recording)  # (B, H, N, h)
        for term, p in self.terms:
            mixed = term.outputs(p, mixed, x, values, first)
        return self.output(mixed.transpose(1, 2).flatten(2)), stored

    def project(
        self, x: Tensor, memory: Tensor | None, shared: KeysValues | None, cache: KeyValueCache | None
    ) -> tuple[Tensor, KeysValues, int]:
        """The queries of x, the keys and values that they may attend to, and the position of the first query."""
        projected = self.apply_maps(x, tuple(self.widths))
        if shared is not None:
            first = shared.values.shape[2] - x.shape[1]
            return self.queries(self.maps.query, projected, x, first), shared, first
        first = 0 if cache is None else cache.length
        new = self.keys_values(projected, x, first, cache)
        return self.queries(self.maps.query, projected, x, first), new if cache is None else cache.append(new), first

    def queries(self, name: str, projected: Projected, x: Tensor, first: int) -> Tensor:
        """The queries (B, H, N, h) by the map `name`, the first at position `first`; without width where logits are
        made of terms alone."""
        if name == NONE:
            return x.new_empty(x.shape[0], self.heads, x.shape[1], 0)
        if name == LEARNED and self.learned_query is not None:
            queries = self.learned_query[None, :, None, :].expand(x.shape[0], -1, x.shape[1], -1)
        else:
            queries = split_heads(x, self.heads) if name == INPUT else projected[name]
        if self.pair is not None:
            queries = queries @ self.pair
        for term, p in self.terms:
            queries = term.queries(p, queries, first)
        return queries

    def keys_values(
        self, projected: Projected, source: Tensor, first: int = 0, cache: KeyValueCache | None = None
    ) -> KeysValues:
        """Keys and values as they are stored; one tensor where one map makes both and keys are not normalised."""
        values = split_heads(source, self.heads) if self.maps.value == INPUT else projected[self.maps.value]
        if self.maps.key == NONE:
            return KeysValues(values[..., :0], values)
        keys = split_heads(source, self.heads) if self.maps.key == INPUT else projected[self.maps.key]
        for term, p in self.terms:
            keys, values = term.keys(p, keys, first, cache), term.values(p, values)
        values = keys if self.maps.value == self.maps.key else values
        return KeysValues(unit(keys) if self.spec.normalise_keys else keys, values)

    def apply_maps(self, x: Tensor, names: tuple[str, ...]) -> Projected:
        """x (B, N, D) through these maps, neighbours by one product."""
        projected: Projected = {}
        for rows, weight, bias in (
            (self.rows, self.projection, self.projection_bias),
            (self.frozen_rows, self.frozen_projection, self.frozen_bias),
        ):
            mine = [name for name in names if name in rows]
            if mine and weight is not None:
                part = slice(rows[mine[0]].start, rows[mine[-1]].stop)
                fused = linear(x, weight[part], bias[part] if bias is not None else None)
                parts = fused.split([self.widths[name] for name in mine], dim=-1)
                for name, columns in zip(mine, parts, strict=True):
                    projected[name] = split_heads(columns, self.shapes[name][0])
        return projected

    def initialise(self, scheme: str, stream: Stream) -> None:
        """Draw the maps; the same map gets the same draws in every variant, up to the scheme's bound."""
        with torch.no_grad():
            if self.projection is not None:
                fused = len(self.projection) if scheme == "xavier_fused" else None
                for name, rows in self.rows.items():
                    bias = self.projection_bias[rows] if self.projection_bias is not None else None
                    draw_map(self.projection[rows], bias, scheme, stream, name, fused)
            if self.frozen_projection is not None:
                deviation = 1 / math.sqrt(self.frozen_projection.shape[1])
                for name, rows in self.frozen_rows.items():
                    self.frozen_projection[rows].normal_(0, deviation, generator=stream(name))
                if self.frozen_bias is not None:
                    self.frozen_bias.zero_()
            if self.pair is not None:
                self.pair.normal_(0, 1 / math.sqrt(self.head_dim), generator=stream("pair"))
            if self.learned_query is not None:
                self.learned_query.uniform_(-1, 1, generator=stream("learned query"))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, heads·h) to (B, heads, N, h)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _rows(widths: dict[str, int]) -> dict[str, slice]:
    """The rows of each map in the fused matrix."""
    ends = dict(zip(widths, itertools.accumulate(widths.values()), strict=True))
    return {name: slice(end - widths[name], end) for name, end in ends.items()}


def _matrix(
    rows: dict[str, slice], model: ModelConfig, trained: bool = True
) -> tuple[nn.Parameter | None, nn.Parameter | None]:
    """One fused matrix for all maps, (rows, D), and its bias (rows,); None where there is no map, or no bias."""
    total = max((part.stop for part in rows.values()), default=0)
    if not total:
        return None, None
    weight = nn.Parameter(torch.empty(total, model.dim), requires_grad=trained)
    return weight, nn.Parameter(torch.empty(total), requires_grad=trained) if model.projection_bias else None
