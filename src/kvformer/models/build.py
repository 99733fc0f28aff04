"""From a run's configuration to a model."""

from torch import nn

from kvformer.config.run import RunConfig
from kvformer.models.encoder import ListEncoder, SetEncoder
from kvformer.models.gpt import GPT
from kvformer.models.initial_weights import initialise
from kvformer.models.seq2seq import Seq2Seq
from kvformer.models.vit import VisionTransformer
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS

MODELS: dict[str, type[nn.Module]] = {
    "encoder": ListEncoder,
    "set_encoder": SetEncoder,
    "vit": VisionTransformer,
    "gpt": GPT,
    "seq2seq": Seq2Seq,
}


def build_model(run: RunConfig, shape: Shape) -> nn.Module:
    """The run's model with its initial weights; the same seed gives variants the same values for the maps they
    share."""
    model = MODELS[run.definition.architecture](run.model, VARIANTS[run.variant], shape)
    initialise(model, run.model.init, run.seed)
    return model
