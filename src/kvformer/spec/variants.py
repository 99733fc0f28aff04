"""The table of attention variants. A variant is data: a point in the space that `AttentionSpec` spans.

To add a variant, add an entry to `VARIANTS`; nothing else needs to change.

Notation of the formulas: Q, K, V are the projected inputs of one head (n x h), X the layer's input, c the logit scale.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from kvformer.spec.projections import SHARING
from kvformer.spec.terms import TERMS

BORJI = "Borji 2023, arXiv 2305.19129"
KAYYAM = "Kayyam et al. 2026, arXiv 2606.04032"


@dataclass(frozen=True)
class AttentionSpec:
    """What one attention layer computes, as orthogonal choices; `refusals` says which of them exclude each other.

    sharing: which projections are the same map, a key of `projections.SHARING`. `q=I`, `k=I`, `v=I` use the layer's
        input as queries, keys or values; `pairwise` forms the query as K·B with one h x h matrix B per head.
    position: the term on the logits, a key of `terms.TERMS`, or `none`.
    kv_heads: number of key/value heads; None means as many as query heads.
    layers_per_kv: this many neighbouring layers share the key and value activations of the first of them.
    normalise_keys, mask_self: Reformer's shared-QK: unit-length keys, and no token attends to itself unless it sees
        nothing else.
    small_position_init: the term starts at 0.02·N(0, 1) (gain near 0) instead of the model's own initialisation.
    turn: queries are keys with each pair of components turned by a learned angle (`phase`), scaled (`scale`) or both
        (`complex`), see `terms.queries_keys.Turn`.
    scores: what the logits are made of: queries and keys (`content`), one learned query per head (`static`), a bias of
        the distance alone (`position`), nothing (`uniform`), or queries and keys of maps that are never trained
        (`frozen`).
    offset_keys: the last half of each key is that of the token before.
    exclusive: outputs have no part along the token's own value (XSA).
    gate: a gate per `head` or `element` on the outputs of the heads.
    rotary: what rotary positions do where keys are values, too: values stay `plain`; they are rotated keys and the
        outputs are turned `back`; or the last half of each key is a rotated part with a map of its own, one per key
        head (`apart`) or one for all heads (`apart_shared`).
    latents: 1: keys and values are expanded from one latent of 2h numbers, and each key has a rotated part of h/2
        numbers that all heads share. 2: from two latents of h numbers, each for half of the heads.
    """

    sharing: str = "none"
    position: str = "none"
    kv_heads: int | None = None
    layers_per_kv: int = 1
    normalise_keys: bool = False
    mask_self: bool = False
    small_position_init: bool = False
    turn: Literal["none", "phase", "scale", "complex"] = "none"
    scores: Literal["content", "static", "position", "uniform", "frozen"] = "content"
    offset_keys: bool = False
    exclusive: bool = False
    gate: Literal["none", "head", "element"] = "none"
    rotary: Literal["plain", "back", "apart", "apart_shared"] = "plain"
    latents: Literal[0, 1, 2] = 0

    @property
    def has_query_map(self) -> bool:
        """Whether queries have a projection of their own."""
        return SHARING[self.sharing].query == "query" and self.scores in ("content", "frozen")

    @property
    def values_are_keys(self) -> bool:
        """Whether one map makes keys and values."""
        return self.sharing in ("k=v", "q=k=v")

    @property
    def query_is_key(self) -> bool:
        """Whether one map makes queries and keys, and no matrix per head follows."""
        return self.sharing in ("q=k", "q=k=v")

    @property
    def needs_rope(self) -> bool:
        """Whether it is defined with rotary positions only."""
        return self.rotary != "plain" or self.latents > 0

    @property
    def rotates_apart(self) -> bool:
        """Whether rotary positions turn a part of the keys that has a map of its own."""
        return self.rotary in ("apart", "apart_shared") or self.latents > 0

    @property
    def rotated_when(self) -> Literal["stored", "read", "back"]:
        """When rotary positions rotate the keys (`terms.rotary.Rotary`)."""
        if not self.values_are_keys:
            return "stored"
        return "back" if self.rotary == "back" else "read"

    @property
    def symmetric_logits(self) -> bool:
        """Whether the self-attention logits, before masks, are a symmetric matrix."""
        tied = self.query_is_key and self.turn in ("none", "scale") and not self.offset_keys
        return tied and not self.normalise_keys and (self.position == "none" or TERMS[self.position].keeps_symmetry)

    @property
    def gram_logits(self) -> bool:
        """Whether they are, apart from a gain, those of a Gram matrix: symmetric and positive semidefinite."""
        return self.symmetric_logits and self.turn == "none"


ADDED = ("turn", "scores", "offset_keys", "exclusive", "gate", "rotary", "latents")
"""Fields added after version 1.0: left out of definitions at their default, so that finished runs stay valid."""


@dataclass(frozen=True)
class Variant:
    """A named attention variant: its spec, how it is printed, and where it comes from.

    widen_mlp: the parameters that the variant saves against `qkv` are re-spent in the MLP (the parameter-matched
        control).
    """

    name: str
    formula: str
    reference: str
    attention: AttentionSpec = field(default_factory=AttentionSpec)
    widen_mlp: bool = False

    @property
    def definition(self) -> dict[str, Any]:
        """All of the variant that the result of a run depends on."""
        default = asdict(AttentionSpec())
        attention = {
            name: value for name, value in asdict(self.attention).items() if name not in ADDED or value != default[name]
        }
        return {"attention": attention, "widen_mlp": self.widen_mlp}


def _table(*variants: Variant) -> dict[str, Variant]:
    return {variant.name: variant for variant in variants}


VARIANTS: dict[str, Variant] = _table(
    Variant("qkv", "softmax(c·QKᵀ)·V", "Vaswani et al. 2017, arXiv 1706.03762"),
    Variant("kv", "softmax(c·KKᵀ)·V", BORJI, AttentionSpec("q=k")),
    Variant("kv_pos", "softmax(s·c·KKᵀ + γ_j)·V", BORJI, AttentionSpec("q=k", "pos2d")),
    Variant("q_kv", "softmax(c·QKᵀ)·K", KAYYAM, AttentionSpec("k=v")),
    Variant("k", "softmax(c·KKᵀ)·K", KAYYAM, AttentionSpec("q=k=v")),
    Variant("k_pos", "softmax(s·c·KKᵀ + γ_j)·K", KAYYAM, AttentionSpec("q=k=v", "pos2d")),
    Variant("mqa", "qkv with 1 key/value head", "Shazeer 2019, arXiv 1911.02150", AttentionSpec(kv_heads=1)),
    Variant("gqa2", "qkv with 2 key/value heads", "Ainslie et al. 2023, arXiv 2305.13245", AttentionSpec(kv_heads=2)),
    Variant("gqa4", "qkv with 4 key/value heads", "Ainslie et al. 2023, arXiv 2305.13245", AttentionSpec(kv_heads=4)),
    Variant("q_mqa", "q_kv with 1 key head", KAYYAM, AttentionSpec("k=v", kv_heads=1)),
    Variant("q_gqa2", "q_kv with 2 key heads", KAYYAM, AttentionSpec("k=v", kv_heads=2)),
    Variant("q_gqa4", "q_kv with 4 key heads", KAYYAM, AttentionSpec("k=v", kv_heads=4)),
    Variant("kv_gain", "softmax(s·c·KKᵀ)·V", "control: kv_pos without its key bias", AttentionSpec("q=k", "gain")),
    Variant("kv_bias", "softmax(c·KKᵀ + γ_j)·V", "control: kv_pos without its gain", AttentionSpec("q=k", "key_bias")),
    Variant("kv_rel", "softmax(c·KKᵀ + m·r_{i-j})·V", "control: a directional term", AttentionSpec("q=k", "relative")),
    Variant(
        "kv_pos_small",
        "kv_pos, position map initialised at 0.02·N(0,1)",
        KAYYAM,
        AttentionSpec("q=k", "pos2d", small_position_init=True),
    ),
    Variant("kv_pair", "softmax(c·K·B·Kᵀ)·V", "Courtois et al. 2024, arXiv 2406.06366", AttentionSpec("pairwise")),
    Variant("iq", "softmax(c·XKᵀ)·V", "Karbevski & Mijoski 2025, arXiv 2510.23912", AttentionSpec("q=I")),
    Variant("ik", "softmax(c·QXᵀ)·V", "Karbevski & Mijoski 2025, arXiv 2510.23912", AttentionSpec("k=I")),
    Variant("iv", "softmax(c·QKᵀ)·X", "He & Hofmann 2023, arXiv 2311.01906", AttentionSpec("v=I")),
    Variant(
        "kv_mask", "softmax(c·KKᵀ), self masked, ·V", "control: no own logit", AttentionSpec("q=k", mask_self=True)
    ),
    Variant(
        "kv_xsa",
        "kv without its part along the own value",
        "Zhai 2026, arXiv 2603.09078",
        AttentionSpec("q=k", exclusive=True),
    ),
    Variant("kv_diag", "softmax(c·(a∘K)Kᵀ)·V", "control: symmetric, indefinite", AttentionSpec("q=k", turn="scale")),
    Variant("kv_rot", "softmax(c·(R_φK)Kᵀ)·V", "control: a direction", AttentionSpec("q=k", turn="phase")),
    Variant(
        "kv_rot_mqa",
        "kv_rot with 1 key/value head",
        "control: H heads from one key",
        AttentionSpec("q=k", turn="phase", kv_heads=1),
    ),
    Variant("kv_complex", "softmax(c·(w∘K)Kᵀ)·V", "control: turn and scale", AttentionSpec("q=k", turn="complex")),
    Variant(
        "kv_offset",
        "softmax(c·K[K₁, K₂ of j-1]ᵀ)·V",
        "modded-nanogpt, record 49",
        AttentionSpec("q=k", offset_keys=True),
    ),
    Variant(
        "qkv_offset", "softmax(c·Q[K₁, K₂ of j-1]ᵀ)·V", "modded-nanogpt, record 49", AttentionSpec(offset_keys=True)
    ),
    Variant("kv_gate", "σ(XW_g)∘(kv)", "Qiu et al. 2025, arXiv 2505.06708", AttentionSpec("q=k", gate="element")),
    Variant(
        "kv_gate_head",
        "σ(XW_g) per head, times kv",
        "Qiu et al. 2025, arXiv 2505.06708",
        AttentionSpec("q=k", gate="head"),
    ),
    Variant("uniform", "mean of V", "Zhang et al. 2018, arXiv 1805.00631", AttentionSpec(scores="uniform")),
    Variant("pos_only", "softmax(m·r_{i-j})·V", "Tay et al. 2020, arXiv 2005.00743", AttentionSpec(scores="position")),
    Variant("static_query", "softmax(c·u·Kᵀ)·V", "control: queries without input", AttentionSpec(scores="static")),
    Variant("frozen_qk", "qkv, Q and K never trained", "arXiv 2506.01115", AttentionSpec(scores="frozen")),
    Variant("q_kv_back", "q_kv with rotated values", "Su 2025, kexue.fm 10862", AttentionSpec("k=v", rotary="back")),
    Variant(
        "q_gqa2_back",
        "q_gqa2 with rotated values",
        "Su 2025, kexue.fm 10862",
        AttentionSpec("k=v", kv_heads=2, rotary="back"),
    ),
    Variant(
        "q_mqa_back",
        "q_mqa with rotated values",
        "Su 2025, kexue.fm 10862",
        AttentionSpec("k=v", kv_heads=1, rotary="back"),
    ),
    Variant(
        "q_kv_apart",
        "q_kv, rotated half of K by its own map",
        "Su 2025, kexue.fm 10907",
        AttentionSpec("k=v", rotary="apart"),
    ),
    Variant(
        "q_gqa2_apart",
        "q_gqa2, rotated half of K by its own map",
        "Su 2025, kexue.fm 10907",
        AttentionSpec("k=v", kv_heads=2, rotary="apart"),
    ),
    Variant(
        "q_mqa_apart",
        "q_mqa, rotated half of K by its own map",
        "Su 2025, kexue.fm 10907",
        AttentionSpec("k=v", kv_heads=1, rotary="apart"),
    ),
    Variant(
        "gta",
        "q_gqa2, one rotated half of K for all heads",
        "Zadouri et al. 2025, arXiv 2505.21487",
        AttentionSpec("k=v", kv_heads=2, rotary="apart_shared"),
    ),
    Variant(
        "mla",
        "qkv, K and V from a latent and a rotated part",
        "DeepSeek-AI 2024, arXiv 2405.04434",
        AttentionSpec(latents=1),
    ),
    Variant(
        "gla2",
        "mla with two latents, half of the heads each",
        "Zadouri et al. 2025, arXiv 2505.21487",
        AttentionSpec(latents=2),
    ),
    Variant(
        "kv_norm",
        "softmax(c·K(K/‖K‖)ᵀ), self masked, ·V",
        "Kitaev et al. 2020 (Reformer), arXiv 2001.04451",
        AttentionSpec("q=k", normalise_keys=True, mask_self=True),
    ),
    Variant(
        "cla2",
        "qkv, K and V shared by pairs of layers",
        "Brandon et al. 2024, arXiv 2405.12981",
        AttentionSpec(layers_per_kv=2),
    ),
    Variant(
        "mqa_cla2",
        "mqa, K and V shared by pairs of layers",
        "Brandon et al. 2024, arXiv 2405.12981",
        AttentionSpec(kv_heads=1, layers_per_kv=2),
    ),
    Variant(
        "mlkv",
        "mqa, K and V shared by triples of layers",
        "Zuhri et al. 2024, arXiv 2406.09297",
        AttentionSpec(kv_heads=1, layers_per_kv=3),
    ),
    Variant(
        "kv_wide",
        "kv, saved parameters re-spent in the MLP",
        "control: equal parameters",
        AttentionSpec("q=k"),
        widen_mlp=True,
    ),
)
