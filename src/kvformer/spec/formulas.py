"""Closed formulas: parameters, multiply-accumulates and cache of a model, from its configuration alone.

Symbols: d width, H heads, h = d/H, g key/value heads, L layers, n tokens, m position channels.
"""

from kvformer.spec.position_codes import row_channels
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS, AttentionSpec, Variant


def has_query_map(spec: AttentionSpec, model: ModelConfig, cross: bool = False) -> bool:
    """Whether an attention layer has a query map: as the variant says, or in cross-attention as `model.cross_query`
    says."""
    return spec.has_query_map or (cross and spec.query_is_key and model.cross_query != "key")


def projection_rows(spec: AttentionSpec, model: ModelConfig, owns_keys_values: bool = True, cross: bool = False) -> int:
    """Rows of the fused projection: d for queries, g·h each for keys and values, as far as the layer has these maps."""
    kv_dim = (spec.kv_heads or model.heads) * model.head_dim
    own = kv_dim * (1 + spec.has_value_map) if owns_keys_values else 0
    return model.dim * has_query_map(spec, model, cross) + own


def position_parameters(spec: AttentionSpec, model: ModelConfig, max_length: int) -> int:
    """Parameters of the position term: m + 1 a map for pos2d, m for gain, the column channels for key_bias, 2n - 1 for
    relative."""
    maps = model.heads if model.position_maps == "head" else 1
    channels = model.position_channels
    per_map = {
        "none": 0,
        "pos2d": channels + 1,
        "gain": channels,
        "key_bias": channels - row_channels(channels),
        "relative": 2 * max_length - 1,
    }
    return maps * per_map[spec.position]


def attention_parameters(
    spec: AttentionSpec, model: ModelConfig, max_length: int, owns_keys_values: bool = True, cross: bool = False
) -> int:
    """Parameters of one attention layer, output map included."""
    rows, dim = projection_rows(spec, model, owns_keys_values, cross), model.dim
    projections = rows * (dim + model.projection_bias)
    output = dim * (dim + model.output_bias)
    pair = model.heads * model.head_dim**2 if spec.sharing == "pairwise" else 0
    return projections + output + pair + position_parameters(spec, model, max_length)


def mlp_hidden(model: ModelConfig, variant: Variant, cross: bool = False) -> int:
    """Hidden width of the MLP of a block, with or without cross-attention.

    `widen_mlp` adds what the block's attention saves against qkv, at 2d + 1 parameters a unit.
    """
    hidden = round(model.mlp_ratio * model.dim)
    if variant.widen_mlp:
        full, own = VARIANTS["qkv"].attention, variant.attention
        rows = sum(
            projection_rows(full, model, cross=kind) - projection_rows(own, model, cross=kind)
            for kind in ((False, True) if cross else (False,))
        )
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

    Queries n·d², keys and values M·g·h·d each, output n·d², scores and weighted sum 2·n·M·d, pairwise n·d·h, key bias
    M·(column channels) a map. Pointwise work (gain, softmax, masks) is not counted, nor is a causal mask as a saving.
    """
    dim, channels, cross = model.dim, model.position_channels, memory is not None
    keys = length if memory is None else memory
    kv_rows = projection_rows(spec, model, owns_keys_values, cross) - dim * has_query_map(spec, model, cross)
    query_rows = dim * (has_query_map(spec, model, cross) or (cross and spec.sharing != "q=I"))
    macs = length * dim * query_rows + keys * dim * kv_rows + length * dim**2 + 2 * length * keys * dim
    if spec.sharing == "pairwise":
        macs += length * dim * model.head_dim
    maps = model.heads if model.position_maps == "head" else 1
    if spec.position in ("pos2d", "key_bias"):
        macs += maps * keys * (channels - row_channels(channels))
    return macs


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
    """Numbers that a decoder keeps per token: g·h for keys and as many for values, for each layer that owns them.

    One tensor serves as both where they are the same map and keys are not normalised.
    """
    spec = variant.attention
    owners = -(-model.layers // spec.layers_per_kv)
    return owners * (1 + (spec.has_value_map or spec.normalise_keys)) * (spec.kv_heads or model.heads) * model.head_dim
