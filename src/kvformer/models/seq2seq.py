"""Encoder-decoder for translation."""

from torch import Tensor, nn

from kvformer.models.attention import DecoderCache
from kvformer.models.blocks import Stack
from kvformer.models.embeddings import TokenEmbedding
from kvformer.models.fast.linear import Linear
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import Variant


class Seq2Seq(nn.Module):
    """Source tokens (B, M) and target tokens (B, N) to logits of the next target token (B, N, vocabulary)."""

    def __init__(self, model: ModelConfig, variant: Variant, shape: Shape) -> None:
        super().__init__()
        self.max_length = shape.length
        self.source_embed = TokenEmbedding(shape.inputs, model, shape.length)
        self.target_embed = TokenEmbedding(shape.target_inputs or shape.outputs, model, shape.length)
        self.encoder = Stack(model, variant, shape.length)
        self.decoder = Stack(model, variant, shape.length, causal=True, cross=True)
        self.head = Linear(model.dim, shape.outputs)
        self.lengths_matter = variant.attention.query_is_key and model.cross_query == "published"
        """Whether cross-attention is another one where target and source are equally long, which no cache can know."""

    def encode(self, source: Tensor, source_padding: Tensor | None) -> Tensor:
        """Memory (B, M, D) of a source; padding is True where a token is padding."""
        return self.encoder(self.source_embed(source), padding=source_padding)

    def decode(
        self,
        target: Tensor,
        memory: Tensor,
        source_padding: Tensor | None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """The decoder's output (B, N, D), which `head` takes to logits.

        Tokens see those before them alone, so that padding at the end of a target is invisible to the others. With a
        cache, `target` holds only the tokens after the cached ones.
        """
        embedded = self.target_embed(target, cache.length if cache is not None else 0)
        return self.decoder(embedded, None, memory, source_padding, cache)

    def forward(
        self, source: Tensor, target: Tensor, source_padding: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Logits of the next target tokens; of those where `scored` (B, N) is true alone, (tokens, vocabulary)."""
        hidden = self.decode(target, self.encode(source, source_padding), source_padding)
        return self.head(hidden if scored is None else hidden[scored])
