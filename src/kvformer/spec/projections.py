"""Which map makes the queries, the keys and the values: what the variants of the paper differ in."""

from typing import TYPE_CHECKING, NamedTuple

from kvformer.spec.sections import ModelConfig

if TYPE_CHECKING:
    from kvformer.spec.variants import AttentionSpec

INPUT = "input"
"""Stands for no map: the layer's input itself, split into heads."""
LEARNED = "learned"
"""Stands for queries that do not depend on the input: one learned vector per head."""
NONE = "none"
"""Stands for queries and keys that do not exist: the logits are made of terms alone."""


class Maps(NamedTuple):
    """What makes queries, keys and values as they are stored: the map `query`, `key`, `value`, `rotary` (the part of
    the keys that rotary positions turn) or `latent` (what keys and values are expanded from), or a stand-in above."""

    query: str
    key: str
    value: str


SHARING = {
    #                queries  keys   values
    "none":     Maps("query", "key", "value"),
    "q=k":      Maps("key",   "key", "value"),
    "k=v":      Maps("query", "key", "key"),
    "q=k=v":    Maps("key",   "key", "key"),
    "q=I":      Maps(INPUT,   "key", "value"),
    "k=I":      Maps("query", INPUT, "value"),
    "v=I":      Maps("query", "key", INPUT),
    "pairwise": Maps("key",   "key", "value"),
}  # fmt: skip
"""By `AttentionSpec.sharing`. `pairwise` then multiplies the queries by one h x h matrix per head."""


def layer_maps(spec: "AttentionSpec", model: ModelConfig, cross: bool = False) -> Maps:
    """The maps of an attention layer. In cross-attention a variant whose queries are its keys may have a query map,
    as `model.cross_query` says."""
    maps = SHARING[spec.sharing]
    if spec.rotates_apart:
        maps = maps._replace(key="rotary", value="latent" if spec.latents else maps.key)
    if spec.scores in ("position", "uniform"):
        return maps._replace(query=NONE, key=NONE)
    if spec.scores == "static":
        return maps._replace(query=LEARNED)
    own_query = cross and spec.query_is_key and model.cross_query != "key"
    return maps._replace(query="query") if own_query else maps


def rotary_part(model: ModelConfig) -> int:
    """r = h/2, the width of keys with a map of their own for rotary positions."""
    return model.head_dim // 2


def query_width(spec: "AttentionSpec", model: ModelConfig) -> int:
    """Width of one head's queries: h, or h + r where keys are expanded from a latent and joined by a rotary part."""
    return model.head_dim + (rotary_part(model) if spec.latents else 0)


def projection_shapes(
    spec: "AttentionSpec", model: ModelConfig, owns_keys_values: bool = True, cross: bool = False
) -> dict[str, tuple[int, int]]:
    """Heads and width of a head of each map of a layer, in the order of the fused matrix.

    H heads for queries, g for keys, values and their rotary parts, and one for what all heads share.
    owns_keys_values: False for a layer that uses the keys and values of a layer below it.
    """
    maps, groups, width = layer_maps(spec, model, cross), spec.kv_heads or model.heads, model.head_dim
    shapes = {
        "query": (model.heads, query_width(spec, model)),
        "key": (groups, width),
        "value": (groups, width),
        "rotary": (groups if spec.rotary == "apart" else 1, rotary_part(model)),
        "latent": (spec.latents, 2 * width // max(1, spec.latents)),
    }
    names = ["query"] if maps.query == "query" else []
    names += [maps.key, maps.value] if owns_keys_values else []
    return {name: shapes[name] for name in names if name in shapes}


def projection_widths(
    spec: "AttentionSpec", model: ModelConfig, owns_keys_values: bool = True, cross: bool = False
) -> dict[str, int]:
    """Rows of each map of a layer, in the order of the fused matrix."""
    shapes = projection_shapes(spec, model, owns_keys_values, cross)
    return {name: heads * width for name, (heads, width) in shapes.items()}


def frozen_maps(spec: "AttentionSpec") -> frozenset[str]:
    """The maps that are drawn once and never trained."""
    return frozenset({"query", "key"}) if spec.scores == "frozen" else frozenset()
