"""Vision transformer: patches, a class token, learned positions; classifies from the class token."""

import torch
from torch import Tensor, nn

from kvformer.models.blocks import Dropout, Stack
from kvformer.models.embeddings import InputPositions
from kvformer.models.fast.linear import Linear
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.terms import Stream
from kvformer.spec.variants import Variant


class VisionTransformer(nn.Module):
    """Images (B, C, height, width) to class logits (B, classes)."""

    def __init__(self, model: ModelConfig, variant: Variant, shape: Shape) -> None:
        super().__init__()
        assert shape.patch is not None
        self.patch = shape.patch
        self.embed = Linear(shape.inputs, model.dim)
        self.class_token = nn.Parameter(torch.empty(model.dim))
        self.positions = InputPositions(model, shape.length)
        self.drop = Dropout(model.embedding_dropout)
        self.stack = Stack(model, variant, shape.length)
        self.head_drop = Dropout(model.head_dropout)
        self.head = nn.Sequential(Linear(model.dim, model.dim), nn.GELU(), Linear(model.dim, shape.outputs))

    def initialise(self, scheme: str, stream: Stream) -> None:
        """The class token starts at N(0, 1)."""
        with torch.no_grad():
            self.class_token.normal_(generator=stream("class token"))

    def patches(self, images: Tensor) -> Tensor:
        """(B, C, height, width) to (B, patches, C·patch²), row by row."""
        tiles = images.unfold(2, self.patch, self.patch).unfold(3, self.patch, self.patch)
        return tiles.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits."""
        tokens = self.embed(self.patches(images))
        first = self.class_token.expand(len(tokens), 1, -1)
        embedded = self.drop(self.positions(torch.cat([first, tokens], dim=1)))
        return self.head(self.head_drop(self.stack(embedded)[:, 0]))
