"""Multi-head self-attention for every variant.

The idea of the paper is in `spec.projections.SHARING`: which map makes queries, keys and values. qkv has three maps; in
kv the keys are the queries, too.

Shapes: B batch, H heads, G key/value heads, N queries, M keys, D model width, h = D/H head width.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kvformer.models.attention.cache import KeysValues, KeyValueCache
from kvformer.models.attention.kernels import Recorded, additive_mask, attend
from kvformer.models.fast.linear import Linear, linear
from kvformer.spec.formulas import term_of
from kvformer.spec.projections import INPUT, layer_maps, projection_widths
from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms import Stream, Term
from kvformer.spec.variants import AttentionSpec


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
        self.kv_heads = spec.kv_heads or model.heads
        self.scale = 1 / math.sqrt(model.head_dim if model.scale == "head" else model.dim)
        self.dropout = model.attention_dropout
        self.owns_keys_values = owns_keys_values
        self.maps = layer_maps(spec, model, self.cross)
        self.widths = projection_widths(spec, model, owns_keys_values, self.cross)
        # One fused matrix for all maps: rows of the query map, then of the key map, then of the value map.
        ends = dict(zip(self.widths, itertools.accumulate(self.widths.values()), strict=True))
        self.rows = {name: slice(end - self.widths[name], end) for name, end in ends.items()}
        total = sum(self.widths.values())
        self.projection = nn.Parameter(torch.empty(total, model.dim)) if total else None
        self.projection_bias = nn.Parameter(torch.empty(total)) if total and model.projection_bias else None
        self.pair = (
            nn.Parameter(torch.empty(self.heads, self.head_dim, self.head_dim)) if spec.sharing == "pairwise" else None
        )
        term = term_of(spec, model, max_length)
        self.position = TermModule(term) if term is not None else None
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
        values attended to.
        """
        queries, attended, first = self.project(x, memory, shared, cache)  # (B, H, N, h); (B, G, M, h) twice
        if self.pair is not None:
            queries = queries @ self.pair

        # Logits s·c·q_i·k_j + γ_j + r_ij. The scale is applied to the queries.
        gain = key_bias = bias = None
        if self.position is not None:
            length, size = queries.shape[2], attended.keys.shape[2]
            gain, key_bias, bias = self.position(length, size, first)
        queries = queries * (self.scale if gain is None else self.scale * gain[:, None, None])

        # Softmax over the keys that a query sees, and the weighted mean of the values.
        mask = additive_mask(queries, attended.keys, first, causal, padding, self.spec.mask_self and not self.cross)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(queries, *attended, key_bias, bias, mask, dropout, self.recording)  # (B, H, N, h)
        return self.output(mixed.transpose(1, 2).flatten(2)), attended

    def project(
        self, x: Tensor, memory: Tensor | None, shared: KeysValues | None, cache: KeyValueCache | None
    ) -> tuple[Tensor, KeysValues, int]:
        """The queries of x, the keys and values that they may attend to, and the position of the first query."""
        projected = self.apply_maps(x, tuple(self.widths))
        attended = shared if shared is not None else self.keys_values(projected, x)
        if cache is not None and shared is None:
            attended = cache.append(attended)
        return self.role(self.maps.query, projected, x), attended, attended.keys.shape[2] - x.shape[1]

    def keys_values(self, projected: dict[str, Tensor], source: Tensor) -> KeysValues:
        """Keys and values; one tensor where one map makes both and keys are not normalised."""
        keys = self.role(self.maps.key, projected, source)
        values = keys if self.maps.value == self.maps.key else self.role(self.maps.value, projected, source)
        return KeysValues(F.normalize(keys, dim=-1) if self.spec.normalise_keys else keys, values)

    def role(self, name: str, projected: dict[str, Tensor], source: Tensor) -> Tensor:
        """The projection by the map `name`, or the layer's input where a role has no map."""
        return self.split_heads(source) if name == INPUT else projected[name]

    def apply_maps(self, x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """x (B, N, D) through these (neighbouring) maps by one product, each (B, heads, N, h)."""
        names = tuple(name for name in names if name in self.widths)
        if not names or self.projection is None:
            return {}
        rows = slice(self.rows[names[0]].start, self.rows[names[-1]].stop)
        bias = self.projection_bias[rows] if self.projection_bias is not None else None
        parts = linear(x, self.projection[rows], bias).split([self.widths[name] for name in names], dim=-1)
        return {name: self.split_heads(part) for name, part in zip(names, parts, strict=True)}

    def split_heads(self, x: Tensor) -> Tensor:
        """(B, N, heads·h) to (B, heads, N, h)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def initialise(self, scheme: str, stream: Stream) -> None:
        """Draw the projections; the same map gets the same draws in every variant, up to the scheme's bound."""
        if self.projection is None:
            return
        total, width = self.projection.shape
        default = 1 / math.sqrt(width)
        with torch.no_grad():
            for name, rows in self.rows.items():
                fan_out = total if scheme == "xavier_fused" else self.widths[name]
                bound = default if scheme == "default" else math.sqrt(6 / (width + fan_out))
                self.projection[rows].uniform_(-bound, bound, generator=stream(name))
                if self.projection_bias is not None:
                    if scheme in ("xavier_attention", "xavier_fused"):
                        self.projection_bias[rows].zero_()
                    else:
                        self.projection_bias[rows].uniform_(-default, default, generator=stream(f"{name} bias"))
            if self.pair is not None:
                self.pair.normal_(0, 1 / math.sqrt(self.head_dim), generator=stream("pair"))


class TermModule(nn.Module):
    """The parameters and constants of a term (`spec.terms`) on the logits."""

    def __init__(self, term: Term) -> None:
        super().__init__()
        self.term = term
        for name, shape in term.shapes().items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        for name, array in term.constants().items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def initialise(self, scheme: str, stream: Stream) -> None:
        """Give the parameters their first values."""
        with torch.no_grad():
            self.term.initialise(self, scheme, stream)

    def gain(self) -> Tensor | None:
        """Factor s on the logits, (1 or H,); None where the term has none."""
        return self.term.gain(self)

    def key_bias(self, keys: int) -> Tensor | None:
        """γ, (1 or H, keys); None where the term has none."""
        return self.term.key_bias(self, keys)

    def forward(self, queries: int, keys: int, first: int) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gain, key bias, and bias (1 or H, queries, keys), with the first query at position `first`."""
        return self.gain(), self.key_bias(keys), self.term.bias(self, queries, keys, first)
