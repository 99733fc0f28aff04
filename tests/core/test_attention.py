"""The one attention module against plain references: every variant, masked or not, explicit and fused."""

import math

import pytest
import torch
from references import apply_map, make_attention, plain_attention, plain_logits, role_parameters, small_model
from torch import nn

from kvformer.models.attention import FUSED_FROM, Attention, KeyValueCache
from kvformer.spec.formulas import cache_elements
from kvformer.spec.projections import LEARNED, NONE
from kvformer.spec.sections import ModelConfig
from kvformer.spec.variants import VARIANTS, AttentionSpec

SPECS = {name: variant.attention for name, variant in VARIANTS.items()}
CROSSING = [name for name, spec in SPECS.items() if not spec.rotates_apart]
LENGTHS = {"explicit": 7, "fused": FUSED_FROM + 3}
TIGHT = {"rtol": 1e-11, "atol": 1e-12}


def model_for(spec: AttentionSpec, **changes: object) -> ModelConfig:
    """Rotary positions where the spec needs them."""
    if spec.needs_rope:
        changes["positions"] = "rope"
    return small_model(heads=8, **changes) if spec.kv_heads == 4 else small_model(**changes)


def inputs(length: int, dim: int = 16, batch: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, length, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("maps", ["layer", "head"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("path", LENGTHS)
@pytest.mark.parametrize("name", SPECS)
def test_every_variant_computes_its_formula(name: str, path: str, causal: bool, maps: str) -> None:
    length = LENGTHS[path]
    model = model_for(SPECS[name], position_maps=maps, scale="model" if causal else "head")
    attention = make_attention(SPECS[name], model, length)
    x = inputs(length)
    torch.testing.assert_close(attention(x, causal=causal)[0], plain_attention(attention, x, causal=causal), **TIGHT)


@pytest.mark.parametrize("path", LENGTHS)
@pytest.mark.parametrize("name", SPECS)
def test_every_variant_without_padding_keys(name: str, path: str) -> None:
    length = LENGTHS[path]
    attention = make_attention(SPECS[name], model_for(SPECS[name]), length)
    x = inputs(length, batch=3)
    padding = torch.arange(length) >= torch.tensor([length, length - 2, 1])[:, None]
    output = attention(x, padding=padding)[0]
    torch.testing.assert_close(output, plain_attention(attention, x, padding=padding), **TIGHT)
    changed = torch.where(padding[..., None], x + 5, x)
    kept = ~padding
    torch.testing.assert_close(attention(changed, padding=padding)[0][kept], output[kept], **TIGHT)


@pytest.mark.parametrize(("queries", "keys"), [(5, 9), (9, 5), (6, 6), (4, FUSED_FROM + 1)])
@pytest.mark.parametrize("name", CROSSING)
def test_cross_attention_at_any_pair_of_lengths(name: str, queries: int, keys: int) -> None:
    """Equal lengths are not a special case: the published code ignored the decoder's state there."""
    attention = make_attention(SPECS[name], model_for(SPECS[name]), max(queries, keys), cross=True)
    x, memory = inputs(queries), inputs(keys, seed=2)
    padding = torch.zeros(2, keys, dtype=torch.bool)
    padding[1, -2:] = True
    for hidden in (None, padding):
        output = attention(x, memory, padding=hidden)[0]
        torch.testing.assert_close(output, plain_attention(attention, x, memory, padding=hidden), **TIGHT)
    reads_input = attention.maps.query not in (LEARNED, NONE)
    assert torch.allclose(attention(x + 1, memory)[0], attention(x, memory)[0]) != reads_input


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["self", "causal", "padding", "cross"])
@pytest.mark.parametrize("length", LENGTHS.values())
def test_qkv_is_torch_multihead_attention(length: int, kind: str, bias: bool) -> None:
    model = small_model(projection_bias=bias, output_bias=bias)
    ours = make_attention(SPECS["qkv"], model, length, cross=kind == "cross")
    theirs = nn.MultiheadAttention(16, 4, bias=bias, batch_first=True, dtype=torch.float64).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.projection)
        theirs.out_proj.weight.copy_(ours.output.weight)
        if bias:
            theirs.in_proj_bias.copy_(ours.projection_bias)
            theirs.out_proj.bias.copy_(ours.output.bias)
    x = inputs(length)
    memory = inputs(length + 4, seed=2) if kind == "cross" else x
    padding = torch.zeros(2, length, dtype=torch.bool)
    padding[0, -3:] = True
    future = nn.Transformer.generate_square_subsequent_mask(length, dtype=torch.float64)
    expected = theirs(
        x,
        memory,
        memory,
        need_weights=False,
        key_padding_mask=padding if kind == "padding" else None,
        attn_mask=future if kind == "causal" else None,
    )[0]
    output = ours(
        x,
        memory if kind == "cross" else None,
        causal=kind == "causal",
        padding=padding if kind == "padding" else None,
    )[0]
    torch.testing.assert_close(output, expected, **TIGHT)


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("sharing", ["none", "k=v"])
@pytest.mark.parametrize("length", LENGTHS.values())
def test_grouped_heads_are_repeated_heads(length: int, sharing: str, kv_heads: int) -> None:
    """Grouped-query attention equals attention with each key and value head copied for its group of query heads."""
    model = small_model()
    grouped = make_attention(AttentionSpec(sharing, kv_heads=kv_heads), model, length)  # type: ignore[arg-type]
    full = make_attention(AttentionSpec(sharing), model, length)  # type: ignore[arg-type]
    group, width = 4 // kv_heads, 4

    def repeated(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor[h * width : (h + 1) * width] for h in range(kv_heads) for _ in range(group)])

    with torch.no_grad():
        full.output.load_state_dict(grouped.output.state_dict())
        for role in full.widths:
            for target, source in zip(role_parameters(full, role), role_parameters(grouped, role), strict=True):
                target.copy_(source if role == "query" else repeated(source))
    x = inputs(length)
    for causal in (False, True):
        torch.testing.assert_close(grouped(x, causal=causal)[0], full(x, causal=causal)[0], **TIGHT)


@pytest.mark.parametrize("name", SPECS)
def test_recorded_logits_and_weights(name: str) -> None:
    """Recorded maps are the formula's logits, at lengths of the fused path too, and recording changes no output."""
    length = FUSED_FROM
    attention = make_attention(SPECS[name], model_for(SPECS[name]), length)
    x = inputs(length, batch=1)
    expected = attention(x, causal=True)[0]
    attention.recording = []
    torch.testing.assert_close(attention(x, causal=True)[0], expected, **TIGHT)
    ((logits, weights, unmasked),) = attention.recording
    hidden = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
    if attention.spec.mask_self:
        hidden |= torch.eye(length, dtype=torch.bool)
        hidden[0, 0] = False
    assert torch.equal(torch.isneginf(logits)[0, 0], hidden)
    assert torch.isfinite(unmasked).all()
    torch.testing.assert_close(unmasked[..., ~hidden], logits[..., ~hidden], **TIGHT)
    difference = logits - plain_logits(attention, x)
    seen = difference[..., ~hidden]
    if attention.spec.position == "pos2d":
        # The row part and the bias are left out of the logits: only differences within a row are defined.
        difference = difference.masked_fill(hidden, 0) - difference[..., :1] * ~hidden
        seen = difference
    torch.testing.assert_close(seen, torch.zeros_like(seen), rtol=0, atol=1e-10)
    torch.testing.assert_close(weights, torch.softmax(logits, dim=-1), **TIGHT)
    assert torch.equal(weights[..., hidden], torch.zeros_like(weights[..., hidden]))


@pytest.mark.parametrize("name", SPECS)
def test_logits_are_symmetric_exactly_where_the_spec_says_so(name: str) -> None:
    attention = make_attention(SPECS[name], model_for(SPECS[name]), 9)
    attention.recording = []
    attention(inputs(9), causal=True)
    logits = attention.recording[0].unmasked
    symmetric = torch.allclose(logits, logits.transpose(-1, -2), rtol=0, atol=1e-12)
    assert symmetric == (attention.spec.symmetric_logits or attention.spec.scores == "uniform")
    # Uniform logits are all zero.
    expected = {"kv", "k", "kv_gain", "kv_wide", "kv_mask", "kv_xsa", "kv_diag", "kv_gate", "kv_gate_head", "uniform"}
    assert symmetric == (name in expected)


@pytest.mark.parametrize("name", ["kv", "kv_pos", "k", "k_pos", "kv_bias", "kv_gain"])
def test_shared_query_and_key_satisfy_detailed_balance(name: str) -> None:
    """exp(logits) = symmetric · D for a diagonal D, so no variant of this class can prefer one way round a cycle."""
    attention = make_attention(SPECS[name], model_for(SPECS[name]), 8)
    attention.recording = []
    attention(inputs(8))
    flow = attention.recording[0][1]
    around = flow[..., 0, 1] * flow[..., 1, 2] * flow[..., 2, 0]
    back = flow[..., 0, 2] * flow[..., 2, 1] * flow[..., 1, 0]
    torch.testing.assert_close(around, back, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["qkv", "kv_rel", "kv_pair", "iq"])
def test_directed_variants_break_detailed_balance(name: str) -> None:
    attention = make_attention(SPECS[name], model_for(SPECS[name]), 8)
    attention.recording = []
    attention(inputs(8))
    flow = attention.recording[0][1]
    around = flow[..., 0, 1] * flow[..., 1, 2] * flow[..., 2, 0]
    back = flow[..., 0, 2] * flow[..., 2, 1] * flow[..., 1, 0]
    assert not torch.allclose(around, back, rtol=1e-3, atol=0)


def test_values_can_be_recovered_from_keys() -> None:
    """Slim attention (arXiv 2503.05840): with square maps V = (K - b_K)·W_K^-T·W_V^T + b_V, so K is enough."""
    attention = make_attention(SPECS["kv"], small_model(), 11)
    x = inputs(11)
    (key_weight, key_bias), (value_weight, value_bias) = (role_parameters(attention, r) for r in ("key", "value"))
    keys = apply_map(attention, "key", x)
    values = (keys - key_bias) @ torch.linalg.inv(key_weight).T @ value_weight.T + value_bias
    output, attended = attention(x)
    torch.testing.assert_close(attended.values.transpose(1, 2).flatten(2), values, rtol=1e-8, atol=1e-8)
    width = attention.head_dim
    mixed = [
        torch.softmax(attention.scale * k @ k.transpose(-1, -2), dim=-1) @ v
        for k, v in zip(keys.split(width, dim=-1), values.split(width, dim=-1), strict=True)
    ]
    torch.testing.assert_close(attention.output(torch.cat(mixed, dim=-1)), output, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("length", LENGTHS.values())
@pytest.mark.parametrize("name", SPECS)
def test_a_cache_changes_nothing_in_pieces_of_any_size(name: str, length: int) -> None:
    attention = make_attention(SPECS[name], model_for(SPECS[name]), length)
    x = inputs(length)
    whole, _ = attention(x, causal=True)
    cache = KeyValueCache()
    pieces, start = [], 0
    for size in (1, 1, 3, length - 6, 1):
        pieces.append(attention(x[:, start : start + size], causal=True, cache=cache)[0])
        start += size
        assert cache.length == start
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, **TIGHT)
    one_layer = model_for(SPECS[name], layers=1)
    assert cache.bytes == cache_elements(VARIANTS[name], one_layer) * 2 * length * 8


@pytest.mark.parametrize("name", CROSSING)
def test_a_cross_attention_cache_projects_the_memory_once(name: str) -> None:
    attention = make_attention(SPECS[name], model_for(SPECS[name]), 9, cross=True)
    x, memory = inputs(4), inputs(9, seed=3)
    cache = KeyValueCache()
    whole = attention(x, memory)[0]
    first = attention(x[:, :1], memory, cache=cache)[0]
    rest = attention(x[:, 1:], torch.full_like(memory, math.nan), cache=cache)[0]
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole, **TIGHT)
    assert cache.length == 9


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("length", LENGTHS.values())
def test_bf16_stays_finite_and_near(name: str, length: int) -> None:
    attention = make_attention(SPECS[name], model_for(SPECS[name]), length).float()
    x = inputs(length).float()
    expected = attention(x, causal=True)[0]
    with torch.autocast("cpu", torch.bfloat16):
        output = attention(x, causal=True)[0]
        output.float().square().mean().backward()
    error, size = (tensor.detach().abs().max().item() for tensor in (output.float() - expected, expected))
    assert error < 0.05 * size + 0.05
    assert all(torch.isfinite(p.grad).all() for p in attention.parameters() if p.requires_grad)


def test_one_token_attends_to_itself_in_every_variant() -> None:
    for spec in SPECS.values():
        attention = make_attention(spec, model_for(spec), 1)
        x = inputs(1)
        torch.testing.assert_close(attention(x)[0], plain_attention(attention, x), **TIGHT)


def test_layers_without_their_own_keys_and_values_have_no_such_parameters() -> None:
    attention = Attention(SPECS["cla2"], small_model(), 8, owns_keys_values=False)
    assert {name: tuple(p.shape) for name, p in attention.named_parameters()} == {
        "projection": (16, 16),
        "projection_bias": (16,),
        "output.weight": (16, 16),
        "output.bias": (16,),
    }
