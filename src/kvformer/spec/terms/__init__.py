"""The terms of attention layers, and which of them a layer has.

To add a term on the logits, write its class (see `base.Term`; `logits` has examples) and add it to `TERMS`; a variant
then names it in `AttentionSpec.position`.
"""

from typing import TYPE_CHECKING

from kvformer.spec.projections import NONE, layer_maps
from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms import logits
from kvformer.spec.terms.base import Span, Stream, Term, draw_map
from kvformer.spec.terms.latents import Latents
from kvformer.spec.terms.outputs import Exclusive, Gate
from kvformer.spec.terms.queries_keys import OffsetKeys, QKNorm, Turn
from kvformer.spec.terms.rotary import Rotary, RotaryApart, rotated_width

if TYPE_CHECKING:
    from kvformer.spec.variants import AttentionSpec

__all__ = ["TERMS", "Span", "Stream", "Term", "draw_map", "layer_terms", "rotated_width"]

TERMS: dict[str, type[Term]] = {
    "pos2d": logits.Pos2D,
    "gain": logits.Gain,
    "key_bias": logits.KeyBias,
    "relative": logits.Relative,
}
"""The terms on the logits that a variant can have, by the name in `AttentionSpec.position`."""


def layer_terms(
    spec: "AttentionSpec", model: ModelConfig, length: int, cross: bool = False, owns_keys_values: bool = True
) -> dict[str, Term]:
    """The terms of an attention layer by name, in the order in which they act on queries, keys and outputs.

    length: longest sequence of keys. In cross-attention query and key have no common axis and no own value: rotation,
    ALiBi, offset and XSA are left out, and so is the turn where the queries always have a map of their own.
    """
    terms: dict[str, Term] = {}
    maps = layer_maps(spec, model, cross)
    content = maps.query != NONE
    if model.qk_norm != "none" and content:
        normed = {"query": maps.query != "key", "key": owns_keys_values}
        terms["norm"] = QKNorm(model, length, [name for name, own in normed.items() if own])
    if spec.turn != "none" and not (cross and model.cross_query == "own"):
        terms["turn"] = Turn(model, length, spec.turn)
    if spec.offset_keys and not cross:
        terms["offset"] = OffsetKeys(model, length)
    if spec.exclusive and not cross:
        terms["exclusive"] = Exclusive(model, length)
    if model.positions == "rope" and content and not cross:
        if spec.latents:
            terms["rotary"] = Latents(model, length, spec.latents)
        elif spec.rotates_apart:
            terms["rotary"] = RotaryApart(model, length)
        else:
            terms["rotary"] = Rotary(model, length, spec.rotated_when)
    if spec.scores == "position":
        terms["position"] = logits.HeadRelative(model, length)
    elif spec.position != "none":
        small = spec.small_position_init or model.position_init == "small"
        terms["position"] = TERMS[spec.position](model, length, small)
    if model.positions == "alibi" and not cross:
        terms["alibi"] = logits.ALiBi(model, length)
    if spec.gate != "none":
        terms["gate"] = Gate(model, length, spec.gate)
    return terms
