"""Closed formulas: parameters, multiply-accumulates and cache of a model, from its configuration alone.

Symbols: d width, H heads, h = d/H, g key/value heads, L layers, n tokens, m position channels.
"""

from kvformer.spec.projections import layer_maps, projection_widths
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.terms import Term
from kvformer.spec.variants import VARIANTS, AttentionSpec, Variant


def term_of(spec: AttentionSpec, model: ModelConfig, length: int) -> Term | None:
    """The term on the logits of a layer with keys of at most this length; None where the variant has none."""
    return spec.term(model, length, spec.small_position_init) if spec.term is not None else None


def _rows(spec: AttentionSpec, model: ModelConfig, owns_keys_values: bool = True, cross: bool = False) -> int:
    return sum(projection_widths(spec, model, owns_keys_values, cross).values())


def attention_parameters(
    spec: AttentionSpec, model: ModelConfig, max_length: int, owns_keys_values: bool = True, cross: bool = False
) -> int:
    """Parameters of one attention layer, output map included."""
    dim = model.dim
    projections = _rows(spec, model, owns_keys_values, cross) * (dim + model.projection_bias)
    output = dim * (dim + model.output_bias)
    pair = model.heads * model.head_dim**2 if spec.sharing == "pairwise" else 0
    term = term_of(spec, model, max_length)
    return projections + output + pair + (term.parameter_count() if term is not None else 0)


def mlp_hidden(model: ModelConfig, variant: Variant, cross: bool = False) -> int:
    """Hidden width of the MLP of a block, with or without cross-attention.

    `widen_mlp` adds what the block's projections save against qkv, at 2d + 1 parameters per unit.
    """
    hidden = round(model.mlp_ratio * model.dim)
    if variant.widen_mlp:
        full, own = VARIANTS["qkv"].attention, variant.attention
        layers = (False, True) if cross else (False,)
        rows = sum(_rows(full, model, cross=kind) - _rows(own, model, cross=kind) for kind in layers)
        hidden += round(rows * (model.dim + model.projection_bias) / (2 * model.dim + 1))
    return hidden


def _block_parameters(variant: Variant, model: ModelConfig, length: int, owns: bool = True, cross: bool = False) -> int:
    dim, hidden = model.dim, mlp_hidden(model, variant, cross)
    attention = attention_parameters(variant.attention, model, length, owns)
    attention += attention_parameters(variant.attention, model, length, cross=True) if cross else 0
    norms = 2 * dim * (3 if cross else 2)
    return attention + hidden * (2 * dim + 1) + dim + norms


def _stack_parameters(variant: Variant, model: ModelConfig, length: int, cross: bool = False) -> int:
    group = variant.attention.layers_per_kv
    blocks = (_block_parameters(variant, model, length, layer % group == 0, cross) for layer in range(model.layers))
    return sum(blocks) + (2 * model.dim if model.final_norm else 0)


def parameters(architecture: str, variant: Variant, model: ModelConfig, shape: Shape) -> int:
    """Parameters of a whole model of this architecture (`encoder`, `set_encoder`, `vit`, `gpt`, `seq2seq`)."""
    dim, length = model.dim, shape.length
    learned = length * dim if model.positions == "learned" else 0
    stack = _stack_parameters(variant, model, length)
    if architecture in ("encoder", "set_encoder"):
        outputs = shape.outputs if architecture == "encoder" else 1
        head = dim * (dim + 1) + 2 * dim + outputs * (dim + 1)
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

    Queries n·d², keys and values M·g·h·d each, output n·d², scores and weighted sum 2·n·M·d, pairwise n·d·h, and the
    term's own. Pointwise work (gain, softmax, masks) is not counted, nor is a causal mask as a saving.
    """
    dim, cross = model.dim, memory is not None
    keys = length if memory is None else memory
    widths = projection_widths(spec, model, owns_keys_values, cross)
    query_rows = widths.pop("query", 0)
    if cross and layer_maps(spec, model, cross).query == "key":
        query_rows = dim  # the key map makes the queries from another input
    macs = length * dim * query_rows + keys * dim * sum(widths.values()) + length * dim**2 + 2 * length * keys * dim
    if spec.sharing == "pairwise":
        macs += length * dim * model.head_dim
    term = term_of(spec, model, keys)
    return macs + (term.macs(keys) if term is not None else 0)


def _stack_macs(variant: Variant, model: ModelConfig, length: int, memory: int | None = None) -> int:
    spec, group = variant.attention, variant.attention.layers_per_kv
    cross = memory is not None
    attention = sum(attention_macs(spec, model, length, layer % group == 0) for layer in range(model.layers))
    crossing = model.layers * attention_macs(spec, model, length, memory=memory) if cross else 0
    return attention + crossing + model.layers * 2 * length * model.dim * mlp_hidden(model, variant, cross)


def macs(architecture: str, variant: Variant, model: ModelConfig, shape: Shape) -> int:
    """Multiply-accumulates of a forward pass for one example of full length; embedding lookups count nothing.

    An encoder-decoder reads and writes sequences of the full length.
    """
    dim, length = model.dim, shape.length
    stack = _stack_macs(variant, model, length)
    if architecture == "encoder":
        return stack + length * dim * (dim + shape.outputs)
    if architecture == "set_encoder":
        return stack + length * dim * (shape.inputs + dim + 1)
    if architecture == "vit":
        return stack + (length - 1) * shape.inputs * dim + dim * (dim + shape.outputs)
    if architecture == "gpt":
        return stack + length * dim * shape.outputs
    if architecture == "seq2seq":
        return stack + _stack_macs(variant, model, length, memory=length) + length * dim * shape.outputs
    raise ValueError(f"there is no architecture '{architecture}'")


def cache_elements(variant: Variant, model: ModelConfig) -> int:
    """Numbers that a decoder keeps per token: g·h for keys and g·h for values, for each layer that owns them.

    One tensor serves as both where they are the same map and keys are not normalised.
    """
    spec = variant.attention
    owners = -(-model.layers // spec.layers_per_kv)
    return owners * (1 + (spec.has_value_map or spec.normalise_keys)) * (spec.kv_heads or model.heads) * model.head_dim
