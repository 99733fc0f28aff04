"""The table of attention variants. A variant is data: a point in the space that `AttentionSpec` spans.

To add a variant, add an entry to `VARIANTS`; nothing else needs to change.

Notation of the formulas: Q, K, V are the projected inputs of one head (n x h), X the layer's input, c the logit scale.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from kvformer.spec.projections import SHARING
from kvformer.spec.terms import TERMS, Term

BORJI = "Borji 2023, arXiv 2305.19129"
KAYYAM = "Kayyam et al. 2026, arXiv 2606.04032"


@dataclass(frozen=True)
class AttentionSpec:
    """What one attention layer computes, as orthogonal choices.

    sharing: which projections are the same map, a key of `projections.SHARING`. `q=I` uses the layer's input as query
        (no query map); `pairwise` forms the query as K·B with one h x h matrix B per head.
    position: the term on the logits, a key of `terms.TERMS`, or `none`.
    kv_heads: number of key/value heads; None means as many as query heads.
    layers_per_kv: this many neighbouring layers share the key and value activations of the first of them.
    normalise_keys, mask_self: Reformer's shared-QK: unit-length keys, and no token attends to itself unless it sees
        nothing else.
    small_position_init: the term starts at 0.02·N(0, 1) (gain near 0) instead of the model's own initialisation.
    """

    sharing: str = "none"
    position: str = "none"
    kv_heads: int | None = None
    layers_per_kv: int = 1
    normalise_keys: bool = False
    mask_self: bool = False
    small_position_init: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a sharing or a term that does not exist."""
        for name, value, known in (("sharing", self.sharing, SHARING), ("position", self.position, ["none", *TERMS])):
            if value not in known:
                raise ValueError(f"there is no {name} '{value}'; allowed: {', '.join(known)}")

    @property
    def has_query_map(self) -> bool:
        """Whether queries have a projection of their own."""
        return SHARING[self.sharing].query == "query"

    @property
    def has_value_map(self) -> bool:
        """Whether values have a projection of their own."""
        return SHARING[self.sharing].value == "value"

    @property
    def query_is_key(self) -> bool:
        """Whether one map makes queries and keys, and nothing is done to the queries after it."""
        return self.sharing in ("q=k", "q=k=v")

    @property
    def term(self) -> type[Term] | None:
        """The class of the term on the logits."""
        return TERMS.get(self.position)

    @property
    def symmetric_logits(self) -> bool:
        """Whether the self-attention logits, before masks, are a symmetric matrix."""
        return self.query_is_key and not self.normalise_keys and (self.term is None or self.term.keeps_symmetry)


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
    def label(self) -> str:
        """The name as figures and tables print it."""
        return self.name

    @property
    def definition(self) -> dict[str, Any]:
        """All of the variant that the result of a run depends on."""
        return {"attention": asdict(self.attention), "widen_mlp": self.widen_mlp}


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
    Variant("kv_rel", "softmax(c·KKᵀ + r_{i-j})·V", "control: a directional term", AttentionSpec("q=k", "relative")),
    Variant(
        "kv_pos_small",
        "kv_pos, position map initialised at 0.02·N(0,1)",
        KAYYAM,
        AttentionSpec("q=k", "pos2d", small_position_init=True),
    ),
    Variant("kv_pair", "softmax(c·K·B·Kᵀ)·V", "Courtois et al. 2024, arXiv 2406.06366", AttentionSpec("pairwise")),
    Variant("iq", "softmax(c·XKᵀ)·V", "Karbevski & Mijoski 2025, arXiv 2510.23912", AttentionSpec("q=I")),
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


def unsupported(variant: Variant, heads: int, layers: int, architecture: str) -> str | None:
    """Why `variant` cannot be used with these numbers of heads and layers in this architecture; None if it can.

    A size at which a variant would be the same as another one is refused, too.
    """
    spec = variant.attention
    if spec.kv_heads is not None and (heads % spec.kv_heads or heads <= spec.kv_heads):
        return f"variant '{variant.name}' needs model.heads to be a larger multiple of {spec.kv_heads}, not {heads}"
    if spec.layers_per_kv > 1 and architecture != "gpt":
        return f"variant '{variant.name}' shares keys and values between layers, which only decoders (gpt) support"
    if layers < spec.layers_per_kv:
        return f"variant '{variant.name}' needs model.layers to be at least {spec.layers_per_kv}, not {layers}"
    return None
