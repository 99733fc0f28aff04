"""Small models of every kind, with inputs for them."""

import torch
from references import small_model
from torch import Tensor, nn

from kvformer.models.build import MODELS
from kvformer.models.initial_weights import initialise
from kvformer.spec.refusals import unsupported
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS

SHAPES = {
    "encoder": Shape(length=6, inputs=10, outputs=10),
    "set_encoder": Shape(length=5, inputs=7, outputs=1),
    "vit": Shape(length=5, inputs=3 * 4 * 4, outputs=10, image=(3, 8, 8), patch=4),
    "gpt": Shape(length=12, inputs=11, outputs=11),
    "seq2seq": Shape(length=12, inputs=11, outputs=13, target_inputs=13),
}
HEADS = 8


def model_config(kind: str, **changes: object) -> ModelConfig:
    """Three layers, so that CLA has a full group and a rest, and every optional parameter present."""
    fields: dict[str, object] = {
        "dim": 4 * HEADS, "layers": 3, "heads": HEADS, "position_channels": 10, "final_norm": True,
    }  # fmt: skip
    if kind in ("gpt", "vit"):
        fields |= {"positions": "learned"}
    return small_model(**{**fields, **changes})


def supported(kind: str) -> list[str]:
    """Variants that a model of this kind can use with `HEADS` heads and three layers."""
    model = model_config(kind)
    return [name for name, variant in VARIANTS.items() if unsupported(variant, model, kind) is None]


PAIRS = [(kind, name) for kind in SHAPES for name in supported(kind)]


def make_model(kind: str, name: str, seed: int = 0, shape: Shape | None = None, **changes: object) -> nn.Module:
    """A model in float64 and evaluation mode with its initial weights."""
    config = model_config(kind, **changes)
    model = MODELS[kind](config, VARIANTS[name], shape or SHAPES[kind])
    initialise(model, config.init, seed)
    return model.double().eval()


def make_inputs(kind: str, batch: int = 2, seed: int = 0, shape: Shape | None = None) -> tuple[Tensor, ...]:
    """What the model's forward pass takes."""
    shape = shape or SHAPES[kind]
    random = torch.Generator().manual_seed(seed)
    if kind == "set_encoder":
        return (torch.randn(batch, shape.length, shape.inputs, dtype=torch.float64, generator=random),)
    if kind == "vit":
        assert shape.image is not None
        return (torch.randn(batch, *shape.image, dtype=torch.float64, generator=random),)
    tokens = torch.randint(shape.inputs, (batch, shape.length), generator=random)
    if kind == "seq2seq":
        return tokens[:, :-3], torch.randint(shape.outputs, (batch, shape.length), generator=random)
    return (tokens,)
