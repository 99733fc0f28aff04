"""Which combinations of variant, model and architecture do not exist, each with the reason in one line."""

from collections.abc import Iterator

from kvformer.spec.projections import SHARING, rotary_part
from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms import TERMS, rotated_width
from kvformer.spec.variants import AttentionSpec, Variant

FREE = ("mask_self", "exclusive", "gate")
"""Fields of a spec that go with all others."""


def unsupported(variant: Variant, model: ModelConfig, architecture: str) -> str | None:
    """Why `variant` cannot be used in this model and architecture; None if it can.

    A size at which a variant would be the same as another one is refused, too.
    """
    rules = (
        *_within(variant.attention),
        *_rotated(variant.attention),
        *_places(variant.attention, model, architecture),
        *_sizes(variant.attention, model),
    )
    reason = next((reason for broken, reason in rules if broken), None)
    return f"variant '{variant.name}' {reason}" if reason else None


def _within(spec: AttentionSpec) -> Iterator[tuple[bool, str]]:
    """Choices of a spec that exclude each other."""
    known = SHARING.keys()
    yield spec.sharing not in known, f"has the unknown sharing '{spec.sharing}'; allowed: {', '.join(known)}"
    terms = ("none", *TERMS)
    yield spec.position not in terms, f"has the unknown position '{spec.position}'; allowed: {', '.join(terms)}"
    tied = spec.query_is_key
    yield spec.turn != "none" and not tied, "has a turn, which needs one map for queries and keys (q=k, q=k=v)"
    grouped = spec.kv_heads is not None
    yield (
        grouped and tied and spec.turn == "none",
        "has kv_heads and one map for queries and keys: heads that share a key would be one head; give it a turn",
    )
    yield grouped and spec.sharing in ("pairwise", "k=I", "v=I"), f"has kv_heads, which {spec.sharing} does not allow"
    layered = spec.layers_per_kv > 1
    yield (
        layered and spec.sharing not in ("none", "k=v", "q=I", "v=I"),
        "has layers_per_kv, which needs a query of its own in every layer (sharing none, k=v, q=I, v=I)",
    )
    yield (
        spec.scores in ("position", "uniform") and not _has_only(spec, "scores", *FREE),
        f"has scores '{spec.scores}', which allows no other choice than {', '.join(FREE)}",
    )
    yield (
        spec.scores == "static" and (spec.sharing not in ("none", "k=v") or spec.turn != "none"),
        "has scores 'static', which needs sharing none or k=v and no turn",
    )
    yield (
        spec.scores == "frozen" and (spec.sharing not in ("none", "q=k", "q=I") or layered),
        "has scores 'frozen', which needs sharing none, q=k or q=I (values must stay trainable) and layers_per_kv 1",
    )
    yield (
        spec.offset_keys and spec.values_are_keys,
        "has offset_keys with values that are keys: shifted keys and values no longer share a cache",
    )


def _rotated(spec: AttentionSpec) -> Iterator[tuple[bool, str]]:
    """Choices that exclude a way of rotating keys."""
    yield (
        spec.rotary == "back" and not spec.values_are_keys,
        "turns outputs back, which needs values that are keys (k=v, q=k=v)",
    )
    yield (
        spec.rotary in ("apart", "apart_shared") and spec.sharing != "k=v",
        f"has rotary '{spec.rotary}', which needs sharing k=v",
    )
    yield (
        spec.latents > 0 and not _has_only(spec, "latents", "position", "small_position_init", *FREE),
        "has latents, which allow no sharing, kv_heads, layers_per_kv, turn, offset, normalised keys, rotary or scores",
    )
    yield spec.normalise_keys and spec.rotary != "plain", f"has normalised keys, which rotary '{spec.rotary}' forbids"


def _has_only(spec: AttentionSpec, *names: str) -> bool:
    """Whether all other fields have their defaults."""
    return spec == AttentionSpec(**{name: getattr(spec, name) for name in names})


def _sizes(spec: AttentionSpec, model: ModelConfig) -> Iterator[tuple[bool, str]]:
    """Sizes that a spec needs."""
    heads, width = model.heads, model.head_dim
    fits = spec.kv_heads is None or not (heads % spec.kv_heads or heads <= spec.kv_heads)
    yield not fits, f"needs model.heads to be a larger multiple of {spec.kv_heads}, not {heads}"
    yield (
        model.layers < spec.layers_per_kv,
        f"needs model.layers to be at least {spec.layers_per_kv}, not {model.layers}",
    )
    yield spec.turn != "none" and width % 2 == 1, f"turns pairs: model.dim / model.heads must be even, not {width}"
    yield (
        spec.offset_keys and width % 4 != 0,
        f"shifts half a key: model.dim / model.heads must be a multiple of 4, not {width}",
    )
    yield (
        spec.rotates_apart and width % 4 != 0,
        f"rotates half a head: model.dim / model.heads must be a multiple of 4, not {width}",
    )
    yield (
        spec.latents > 0 and heads % max(1, spec.latents) != 0,
        f"has {spec.latents} latents: model.heads must be a multiple of it, not {heads}",
    )
    yield (
        spec.rotates_apart and model.rope_fraction != 1 and rotated_width(model) != rotary_part(model),
        f"rotates half a head: model.rope_fraction must be 1 or 0.5, not {model.rope_fraction:g}",
    )
    rope = model.positions == "rope"
    yield (
        rope and width % 2 == 1,
        f"cannot use model.positions rope with model.dim / model.heads = {width}; it must be even",
    )
    yield (
        rope and rotated_width(model) < 2,
        f"cannot use model.rope_fraction {model.rope_fraction:g}: it rotates no pair of a head's {width} components",
    )


def _places(spec: AttentionSpec, model: ModelConfig, architecture: str) -> Iterator[tuple[bool, str]]:
    """Architectures and options of the model in which a spec is not defined."""
    yield (
        spec.layers_per_kv > 1 and architecture != "gpt",
        "shares keys and values between layers, which only decoders (gpt) support",
    )
    apart = "rotates a part of its keys, which"
    yield (
        spec.needs_rope and model.positions != "rope",
        f"{apart if spec.rotates_apart else 'turns outputs back, which'} needs model.positions rope, not "
        f"{model.positions}",
    )
    yield spec.rotates_apart and architecture == "seq2seq", f"{apart} cross-attention (seq2seq) has no positions for"
    yield (
        spec.rotates_apart and model.qk_norm != "none",
        f"puts its keys together from two parts; model.qk_norm must be none, not {model.qk_norm}",
    )
    yield (
        spec.normalise_keys and model.qk_norm != "none",
        f"normalises its keys; model.qk_norm must be none, not {model.qk_norm}",
    )
    ordered = spec.offset_keys or spec.scores == "position" or model.positions in ("rope", "alibi")
    what = f"model.positions {model.positions}" if model.positions in ("rope", "alibi") else "an order of the tokens"
    yield ordered and architecture == "set_encoder", f"cannot be used here with {what}: a set has no order"
