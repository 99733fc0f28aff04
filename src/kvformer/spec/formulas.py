"""Closed formulas: parameters, multiply-accumulates and cache of a model, from its configuration alone.

Symbols: d width, H heads, h = d/H, g key/value heads, L layers, n tokens, m position channels, f hidden width.
"""

from kvformer.spec.projections import INPUT, NONE, layer_maps, projection_widths, query_width
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.terms import layer_terms
from kvformer.spec.variants import VARIANTS, AttentionSpec, Variant


def attention_parameters(
    spec: AttentionSpec, model: ModelConfig, max_length: int, owns_keys_values: bool = True, cross: bool = False
) -> int:
    """Parameters of one attention layer, output map included."""
    dim = model.dim
    rows = sum(projection_widths(spec, model, owns_keys_values, cross).values())
    output = dim * (dim + model.output_bias)
    pair = model.heads * model.head_dim**2 if spec.sharing == "pairwise" else 0
    learned_queries = dim if spec.scores == "static" else 0
    terms = layer_terms(spec, model, max_length, cross, owns_keys_values).values()
    own = sum(term.parameter_count() for term in terms)
    return rows * (dim + model.projection_bias) + output + pair + learned_queries + own


def _mlp_maps(model: ModelConfig) -> int:
    return 3 if model.activation == "swiglu" else 2


def mlp_hidden(model: ModelConfig, variant: Variant, length: int, cross: bool = False) -> int:
    """Hidden width f of the MLP of a block, with or without cross-attention.

    A unit has 2d parameters and a bias; with SwiGLU 3d and two biases, and f is such that the MLP is as large as one
    with two maps. `match` and `widen_mlp` add what the block's attention saves against qkv; what a block saves that
    uses the keys and values of another (`layers_per_kv`) is not added.
    """
    dim, bias, maps = model.dim, model.mlp_bias, _mlp_maps(model)
    unit = maps * dim + (maps - 1) * bias
    hidden = round(model.mlp_ratio * dim)
    if maps == 3:
        hidden = round(model.mlp_ratio * dim * (2 * dim + bias) / unit)
    if variant.widen_mlp or model.match == "mlp":
        full, own = VARIANTS["qkv"].attention, variant.attention
        saved = sum(
            attention_parameters(full, model, length, cross=kind) - attention_parameters(own, model, length, cross=kind)
            for kind in ((False, True) if cross else (False,))
        )
        hidden += round(saved / unit)
    return hidden


def _block_parameters(variant: Variant, model: ModelConfig, length: int, owns: bool = True, cross: bool = False) -> int:
    dim, hidden, maps = model.dim, mlp_hidden(model, variant, length, cross), _mlp_maps(model)
    attention = attention_parameters(variant.attention, model, length, owns)
    attention += attention_parameters(variant.attention, model, length, cross=True) if cross else 0
    mlp = maps * dim * hidden + ((maps - 1) * hidden + dim) * model.mlp_bias
    return attention + mlp + _norm_parameters(model) * (3 if cross else 2)


def _norm_parameters(model: ModelConfig) -> int:
    return model.dim if model.norm_kind == "rmsnorm" else 2 * model.dim


def _stack_parameters(variant: Variant, model: ModelConfig, length: int, cross: bool = False) -> int:
    group = variant.attention.layers_per_kv
    blocks = (_block_parameters(variant, model, length, layer % group == 0, cross) for layer in range(model.layers))
    return sum(blocks) + (_norm_parameters(model) if model.final_norm else 0)


def parameters(architecture: str, variant: Variant, model: ModelConfig, shape: Shape) -> int:
    """Parameters of a whole model of this architecture (`encoder`, `set_encoder`, `vit`, `gpt`, `seq2seq`)."""
    dim, length = model.dim, shape.length
    learned = length * dim if model.positions == "learned" else 0
    stack = _stack_parameters(variant, model, length)
    if architecture in ("encoder", "set_encoder"):
        outputs = shape.outputs if architecture == "encoder" else 1
        head = outputs * (dim + 1) + (dim * (dim + 1) + 2 * dim if model.head_kind == "mlp" else 0)
        return (shape.inputs + 1) * dim + (learned if architecture == "encoder" else 0) + stack + head
    if architecture == "vit":
        return (shape.inputs + 1) * dim + dim + learned + stack + dim * (dim + 1) + shape.outputs * (dim + 1)
    if architecture == "gpt":
        head = shape.outputs * (1 if model.tied_output else dim + 1)
        return shape.inputs * dim + learned + stack + head
    if architecture == "seq2seq":
        target = shape.target_inputs or shape.outputs
        decoder = _stack_parameters(variant, model, length, cross=True)
        return (shape.inputs + target) * dim + 2 * learned + stack + decoder + shape.outputs * (dim + 1)
    raise ValueError(f"there is no architecture '{architecture}'")


def block_parameters(architecture: str, variant: Variant, model: ModelConfig, shape: Shape) -> int:
    """Parameters of all blocks: those of a model without embeddings, positions and head."""
    stack = _stack_parameters(variant, model, shape.length)
    return stack + (_stack_parameters(variant, model, shape.length, cross=True) if architecture == "seq2seq" else 0)


def total_attention_parameters(architecture: str, variant: Variant, model: ModelConfig, shape: Shape) -> int:
    """Parameters of all attention layers of a model."""
    spec, group = variant.attention, variant.attention.layers_per_kv
    layers = [attention_parameters(spec, model, shape.length, layer % group == 0) for layer in range(model.layers)]
    if architecture != "seq2seq":
        return sum(layers)
    return 2 * sum(layers) + model.layers * attention_parameters(spec, model, shape.length, cross=True)


def attention_macs(
    spec: AttentionSpec,
    model: ModelConfig,
    length: int,
    owns_keys_values: bool = True,
    memory: int | None = None,
) -> int:
    """Multiply-accumulates of one attention layer for one sequence of n tokens, over itself or over `memory` tokens.

    Queries n·d², keys and values M·g·h·d each, output n·d², logits and weighted sum n·M·d each (no logits where they
    are made of terms alone, and n·M·H·(h + r) where keys are wider), pairwise n·d·h, and the terms' own. Pointwise work
    (gain, rotation, softmax, masks) is not counted, nor is a causal mask as a saving.
    """
    dim, cross = model.dim, memory is not None
    keys = length if memory is None else memory
    maps, widths = layer_maps(spec, model, cross), projection_widths(spec, model, owns_keys_values, cross)
    query_rows = widths.pop("query", 0)
    if cross and maps.query == "key":
        query_rows = widths["key"]  # the key map, on another input
    compared = 0 if maps.query == NONE else model.heads * query_width(spec, model)
    macs = length * dim * query_rows + keys * dim * sum(widths.values()) + length * dim**2
    macs += length * keys * (compared + dim)
    if spec.sharing == "pairwise":
        macs += length * dim * model.head_dim
    return macs + sum(term.macs(length, keys) for term in layer_terms(spec, model, keys, cross).values())


def _stack_macs(variant: Variant, model: ModelConfig, length: int, memory: int | None = None) -> int:
    spec, group = variant.attention, variant.attention.layers_per_kv
    cross = memory is not None
    attention = sum(attention_macs(spec, model, length, layer % group == 0) for layer in range(model.layers))
    crossing = model.layers * attention_macs(spec, model, length, memory=memory) if cross else 0
    mlp = _mlp_maps(model) * length * model.dim * mlp_hidden(model, variant, length, cross)
    return attention + crossing + model.layers * mlp


def macs(architecture: str, variant: Variant, model: ModelConfig, shape: Shape) -> int:
    """Multiply-accumulates of a forward pass for one example of full length; embedding lookups count nothing.

    An encoder-decoder reads and writes sequences of the full length.
    """
    dim, length = model.dim, shape.length
    stack = _stack_macs(variant, model, length)
    head = dim if model.head_kind == "mlp" else 0
    if architecture == "encoder":
        return stack + length * dim * (head + shape.outputs)
    if architecture == "set_encoder":
        return stack + length * dim * (shape.inputs + head + 1)
    if architecture == "vit":
        return stack + (length - 1) * shape.inputs * dim + dim * (dim + shape.outputs)
    if architecture == "gpt":
        return stack + length * dim * shape.outputs
    if architecture == "seq2seq":
        return stack + _stack_macs(variant, model, length, memory=length) + length * dim * shape.outputs
    raise ValueError(f"there is no architecture '{architecture}'")


def cache_elements(variant: Variant, model: ModelConfig) -> int:
    """Numbers that a decoder keeps per token: the rows of the maps of keys and values, g·h each, for each layer that
    owns them.

    One tensor serves as both where they are the same map and keys are not normalised; logits that are made of terms
    alone need no keys.
    """
    spec = variant.attention
    owners = -(-model.layers // spec.layers_per_kv)
    _, *stored = layer_maps(spec, model)
    widths = {NONE: 0, INPUT: model.dim, **projection_widths(spec, model)}
    return owners * sum(widths[name] for name in (stored if spec.normalise_keys else set(stored)))
