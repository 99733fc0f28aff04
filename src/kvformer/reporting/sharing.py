"""What a variant shares, in a few symbols: what the reports print next to its name."""

from kvformer.spec.variants import VARIANTS, AttentionSpec

SHARED = {
    "q=k": "Q = K",
    "k=v": "K = V",
    "q=k=v": "Q = K = V",
    "q=I": "Q = input",
    "k=I": "K = input",
    "v=I": "V = input",
    "pairwise": "Q = K·B",
}
SAID = {"Q = K": "sharing queries and keys", "K = V": "sharing keys and values", "Q = K = V": "sharing all three"}
"""How a headline names what is shared, where nothing else differs."""
POSITION = {"pos2d": "position", "gain": "gain", "key_bias": "key bias", "relative": "relative bias"}
TURN = {"phase": "turned", "scale": "scaled", "complex": "turned and scaled"}
SCORES = {"static": "learned query", "position": "no Q, K", "uniform": "no Q, K", "frozen": "Q, K untrained"}


def shares(variant: str) -> str:
    """`Q = K + position`; empty for a variant that this version of kvformer does not know."""
    if variant not in VARIANTS:
        return ""
    spec = VARIANTS[variant].attention
    heads = f"{spec.kv_heads} KV head{'' if spec.kv_heads == 1 else 's'}" if spec.kv_heads else ""
    parts = [
        SHARED.get(spec.sharing, ""),
        SCORES.get(spec.scores, ""),
        POSITION.get(spec.position, ""),
        TURN.get(spec.turn, ""),
        heads,
        f"KV over {spec.layers_per_kv} layers" if spec.layers_per_kv > 1 else "",
        *(words for words, has in _details(spec, VARIANTS[variant].widen_mlp) if has),
    ]
    return " + ".join(filter(None, parts)) or "separate Q, K, V"


def _details(spec: AttentionSpec, widen_mlp: bool) -> list[tuple[str, bool]]:
    return [
        ("unit keys", spec.normalise_keys),
        ("self masked", spec.mask_self),
        ("small start", spec.small_position_init),
        ("offset keys", spec.offset_keys),
        ("own value removed", spec.exclusive),
        ("gate", spec.gate == "element"),
        ("gate per head", spec.gate == "head"),
        ("turned back", spec.rotary == "back"),
        ("rotated keys apart", spec.rotary == "apart"),
        ("one rotated key", spec.rotary == "apart_shared"),
        ("KV latent", spec.latents == 1),
        ("two KV latents", spec.latents == 2),
        ("wider MLP", widen_mlp),
    ]


def has_query(variant: str) -> bool | None:
    """Whether a variant has a map of its own for queries; None for one that this version of kvformer does not know."""
    return VARIANTS[variant].attention.has_query_map if variant in VARIANTS else None
