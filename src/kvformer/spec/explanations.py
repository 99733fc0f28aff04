"""Variants in words: the algebra of kv_pos, and a summary of any variant from its spec."""

from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms import layer_terms
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

GRAM = """\
What follows from one map for queries and keys (logits S_ij = c·k_i·k_j, docs/theory.md has the proofs):
1. S is symmetric: "i looks at j" and "j looks at i" have the same logit. There is no direction.
2. S is positive semidefinite: at equal norms of the keys no logit of a row is larger than a token's own.
3. Rotary positions keep both: with k'_i = R_i·k_i, S_ij = c·k'_i·k'_j is a Gram matrix again. ALiBi keeps them, too.
4. A causal mask hides half of S, so symmetry contradicts nothing: for one given text, any logits below the diagonal
   are those of some keys if the text is no longer than a head is wide. The price is a large own logit, so 2 remains.
Controls: kv_mask and kv_xsa remove the own token, kv_diag the sign of 2, kv_rot adds a direction."""

NORMAL_FORM = """\
Why a learned angle per pair is enough for a direction (docs/theory.md has the proof):
any bilinear form k_i·B·k_j on h components whose symmetric part is positive definite becomes, after a change of basis
that the key map absorbs, a sum of rotations of pairs by angles below a quarter turn. On this class kv_rot, with d/2
numbers per layer, can express what kv_pair expresses with d·h. At the start angles are drawn from a full turn, and the
logits are about as directed as those of qkv."""

ABSORPTION = """\
Why the latent is enough for a decoder (docs/theory.md has the proof):
q·(W_UK·c_j) = (W_UKᵀ·q)·c_j and Σ_j a_ij·W_UV·c_j = W_UV·(Σ_j a_ij·c_j). So keys and values need not be expanded: with
queries [W_UKᵀ·q, q^r], keys [c, k^r] and values c, all heads share one key head, and the output is the same. Rotary
positions or a norm between W_UK and the query would forbid it: hence the rotated part, and no qk_norm.
kvformer expands in training and in decoding. Absorbed, a token costs 2D·d_c for a query instead of for every key, and
H(2d_c + r) instead of H(h + r) + D for a pair."""

THEOREMS = {"kv": GRAM, "kv_rot": NORMAL_FORM, "mla": ABSORPTION}
"""What `explain` adds for a variant."""

MAPS = {
    "none": "queries, keys and values have a map each",
    "q=k": "one map makes queries and keys",
    "k=v": "one map makes keys and values: a decoder caches one tensor instead of two",
    "q=k=v": "one map makes queries, keys and values",
    "q=I": "the layer's input is the query: no query map",
    "k=I": "the layer's input is the key: no key map",
    "v=I": "the layer's input is the value: no value map",
    "pairwise": "queries are keys times one h x h matrix B per head: K·B·Kᵀ is not symmetric",
}

PARTS = {
    "apart": "one map makes values and the first half of keys; the rotated half has a map of its own",
    "apart_shared": "one map makes values and the first half of keys; the rotated half has a map of its own, the same "
    "for all heads",
    1: "keys and values are expanded from a latent of 2h numbers",
    2: "keys and values are expanded from two latents of h numbers, each for half of the heads",
}
"""By `AttentionSpec.rotary` or `latents`, where keys have a rotated part apart."""

SCORES = {
    "static": "the query is one learned vector per head, the same for every token",
    "position": "there are no queries and keys",
    "uniform": "there are no queries and keys: a token takes the mean of the values that it sees",
    "frozen": "queries and keys have maps that are drawn once and never trained",
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
    if variant.name in THEOREMS:
        lines.append(THEOREMS[variant.name])
    return "\n".join(lines)


def _facts(spec: AttentionSpec) -> list[str]:
    facts = [MAPS[spec.sharing] if spec.scores in ("content", "frozen") else SCORES[spec.scores]]
    if spec.rotates_apart:
        facts = [PARTS[spec.latents or spec.rotary]]
        if spec.latents:
            facts.append("a rotated part of h/2 numbers, the same for all heads, joins each key")
        facts.append(f"a decoder caches the rotated part and the {'latent' if spec.latents else 'values'}")
    if spec.rotary == "back":
        facts.append("rotated keys are values, too: outputs are turned back by the position of the query")
    if spec.scores == "frozen":
        facts.append(SCORES["frozen"])
    if spec.gram_logits:
        facts.append("the logits are symmetric, and apart from a gain those of a Gram matrix: every token likes itself")
    elif spec.symmetric_logits:
        facts.append("the logits are symmetric, but not those of a Gram matrix")
    facts += [term.explanation for term in layer_terms(spec, ModelConfig(), 1).values()]
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
