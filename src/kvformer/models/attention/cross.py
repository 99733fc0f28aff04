"""Cross-attention: queries of the decoder, keys and values of a memory."""

from torch import Tensor

from kvformer.models.attention.cache import KeysValues, KeyValueCache
from kvformer.models.attention.module import Attention
from kvformer.spec.sections import ModelConfig
from kvformer.spec.variants import AttentionSpec


class CrossAttention(Attention):
    """Attention from x (B, N, D) to a memory (B, M, D), which a cache projects only once."""

    cross = True

    def project(
        self, x: Tensor, memory: Tensor | None, shared: KeysValues | None, cache: KeyValueCache | None
    ) -> tuple[Tensor, KeysValues, int]:
        """The queries of x, the keys and values of the memory, and the position of the first query."""
        assert memory is not None and shared is None
        first = 0 if cache is None else cache.advance(x.shape[1])
        queries = self.queries(self.maps.query, self.apply_maps(x, (self.maps.query,)), x, first)
        if cache is not None and cache.length:
            return queries, cache.content, first
        new = self.keys_values(self.apply_maps(memory, ("key", "value")), memory)
        return queries, new if cache is None else cache.append(new), first


class PublishedCrossAttention(CrossAttention):
    """Cross-attention of the code of arXiv 2305.19129 for variants whose queries are their keys: wherever x and the
    memory have equal lengths, the queries are passed over and the memory's keys attend to themselves."""

    def project(
        self, x: Tensor, memory: Tensor | None, shared: KeysValues | None, cache: KeyValueCache | None
    ) -> tuple[Tensor, KeysValues, int]:
        """As `CrossAttention`, but for equal lengths. A cache cannot know of them (see `Seq2Seq.lengths_matter`)."""
        if cache is not None or memory is None or x.shape[1] != memory.shape[1]:
            return super().project(x, memory, shared, cache)
        projected = self.apply_maps(memory, ("key", "value"))
        return self.queries("key", projected, memory, 0), self.keys_values(projected, memory), 0


def cross_attention(spec: AttentionSpec, model: ModelConfig, max_length: int) -> CrossAttention:
    """The cross-attention of a variant, as `model.cross_query` says."""
    published = spec.query_is_key and model.cross_query == "published"
    return (PublishedCrossAttention if published else CrossAttention)(spec, model, max_length)
