"""The initial weights of a model."""

import math

import torch
from torch import nn

from kvformer.seeding import integer_seed


def initialise(model: nn.Module, scheme: str, seed: int) -> None:
    """Draw all parameters. Every module draws from a stream named after it, so that variants share what they have in
    common."""
    for name, module in model.named_modules():

        def stream(purpose: str, name: str = name) -> torch.Generator:
            return torch.Generator().manual_seed(integer_seed("initialisation", name, purpose, seed))

        if hasattr(module, "initialise"):
            module.initialise(scheme, stream)
        elif isinstance(module, nn.Linear):
            attention_output = name.endswith("attention.output")
            bound = 1 / math.sqrt(module.in_features)
            with torch.no_grad():
                if scheme == "xavier" or (scheme != "default" and attention_output):
                    nn.init.xavier_uniform_(module.weight, generator=stream("weight"))
                else:
                    module.weight.uniform_(-bound, bound, generator=stream("weight"))
                if module.bias is not None:
                    if scheme in ("xavier_attention", "xavier_fused") and attention_output:
                        module.bias.zero_()
                    else:
                        module.bias.uniform_(-bound, bound, generator=stream("bias"))
