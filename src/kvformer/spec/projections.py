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
    """What makes queries, keys and values: the map `query`, `key` or `value`, or one of the stand-ins above."""

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
    if spec.scores in ("position", "uniform"):
        return maps._replace(query=NONE, key=NONE)
    if spec.scores == "static":
        return maps._replace(query=LEARNED)
    own_query = cross and spec.query_is_key and model.cross_query != "key"
    return maps._replace(query="query") if own_query else maps


def projection_widths(
    spec: "AttentionSpec", model: ModelConfig, owns_keys_values: bool = True, cross: bool = False
) -> dict[str, int]:
    """Rows of each map of a layer, in the order of the fused matrix: d for queries, g·h each for keys and values.

    owns_keys_values: False for a layer that uses the keys and values of a layer below it.
    """
    maps, keys_values = layer_maps(spec, model, cross), (spec.kv_heads or model.heads) * model.head_dim
    widths = {"query": model.dim} if maps.query == "query" else {}
    if owns_keys_values:
        widths |= {name: keys_values for name in dict.fromkeys((maps.key, maps.value)) if name in ("key", "value")}
    return widths


def frozen_maps(spec: "AttentionSpec") -> frozenset[str]:
    """The maps that are drawn once and never trained."""
    return frozenset({"query", "key"}) if spec.scores == "frozen" else frozenset()
