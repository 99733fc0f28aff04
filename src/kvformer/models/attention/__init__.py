"""Attention. `module` is the plain path of every variant, `cross` attends to a memory, `kernels` compute the softmax,
`cache` holds what a decoder keeps.

What variants differ in is in `spec`: the maps (`projections`) and the terms on the logits (`terms`).
"""

from kvformer.models.attention.cache import DecoderCache, KeysValues, KeyValueCache
from kvformer.models.attention.cross import CrossAttention, cross_attention
from kvformer.models.attention.kernels import FUSED_FROM, Recorded
from kvformer.models.attention.module import Attention

__all__ = [
    "FUSED_FROM",
    "Attention",
    "CrossAttention",
    "DecoderCache",
    "KeyValueCache",
    "KeysValues",
    "Recorded",
    "cross_attention",
]
