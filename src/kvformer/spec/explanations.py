"""Variants in words: the algebra of kv_pos, and a summary of any variant from its spec."""

from kvformer.spec.variants import AttentionSpec, Variant

POSITION_TERM = """\
kv_pos, as published: logits S_ij = c·k_i·k_j are broadcast to m channels, a fixed code P (n x n x m) is added,
and a linear map with weight w and bias b leads back to one channel:  L_ij = Σ_k w_k·(S_ij + P_ijk) + b.
1. Sum the channels apart:            L_ij = s·S_ij + Σ_k w_k·P_ijk + b   with the gain  s = Σ_k w_k  (all m channels).
2. P's channels depend on i or on j:  Σ_k w_k·P_ijk = ρ_i + γ_j           (row channels, column channels).
3. The softmax over j ignores what is the same for all j, so ρ_i and b vanish, and their gradients are exactly zero:
                                      A_ij = softmax_j(s·S_ij + γ_j).
4. So it learns one gain s and a bias γ_j per key position. It has no term in i - j: it cannot tell left from right.
5. s may be negative. K·Kᵀ is a Gram matrix, every token likes itself; a small or negative s undoes that.
6. kvformer computes line 3 (n² + n·m steps instead of n²·m, nothing stored m times) and keeps w and b as parameters,
   so that an optimiser moves s by up to m learning rates per step, as it did for the authors."""

MAPS = {
    "none": "queries, keys and values have a map each",
    "q=k": "one map makes queries and keys",
    "k=v": "one map makes keys and values: a decoder caches one tensor instead of two",
    "q=k=v": "one map makes queries, keys and values",
    "q=I": "the layer's input is the query: no query map",
    "pairwise": "queries are keys times one h x h matrix B per head: K·B·Kᵀ is not symmetric",
}


def explain(variant: Variant) -> str:
    """A variant in a few lines."""
    if variant.name == "kv_pos":
        return POSITION_TERM
    lines = [
        f"{variant.name}: {variant.formula}  ({variant.reference})",
        *map("- {}.".format, _facts(variant.attention)),
    ]
    if variant.widen_mlp:
        lines.append("- the parameters that it saves are spent on a wider MLP, which makes it as large as qkv.")
    return "\n".join(lines)


def _facts(spec: AttentionSpec) -> list[str]:
    facts = [MAPS[spec.sharing]]
    if spec.symmetric_logits:
        facts.append("the logits are symmetric, and apart from a gain those of a Gram matrix: every token likes itself")
    if spec.term is not None:
        facts.append(spec.term.explanation)
    if spec.kv_heads is not None:
        facts.append(f"all query heads share {spec.kv_heads} key head{'s' if spec.kv_heads > 1 else ''}")
    if spec.layers_per_kv > 1:
        facts.append(f"{spec.layers_per_kv} neighbouring layers use the keys and values of the first of them")
    if spec.normalise_keys:
        facts.append(
            "keys have unit length, queries do not, so that no token is its own best match by its length alone"
        )
    if spec.mask_self:
        facts.append("a token does not attend to itself unless it sees nothing else")
    if spec.small_position_init:
        facts.append("the position map starts near zero: attention starts out uniform")
    return facts
