"""The rows of 2026: the integers of their specification, and the invariants that each of them must keep."""

import math
from dataclasses import replace

import pytest
import torch
from models import SHAPES, make_inputs, make_model, model_config
from references import logits_of, make_attention, plain_attention, random_input, small_model
from torch import Tensor

from kvformer.models.attention import FUSED_FROM, Attention, DecoderCache, KeyValueCache
from kvformer.models.build import MODELS
from kvformer.models.initial_weights import initialise
from kvformer.spec.formulas import (
    attention_parameters,
    cache_elements,
    macs,
    mlp_hidden,
    parameters,
)
from kvformer.spec.refusals import unsupported
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS, AttentionSpec, Variant

TIGHT = {"rtol": 1e-10, "atol": 1e-11}
LENGTHS = {"explicit": 7, "fused": FUSED_FROM + 3}
K_ROT = Variant("k_rot", "", "", AttentionSpec("q=k=v", turn="phase"))
SPEC_S1 = VARIANTS["q_mqa_apart"].attention
GTA_1 = Variant("gta1", "", "", AttentionSpec("k=v", kv_heads=1, rotary="apart_shared"))
APART = [name for name, variant in VARIANTS.items() if variant.attention.rotates_apart]
GPT = Shape(length=32, inputs=65, outputs=65)
ROWS: dict[str, tuple[Variant, dict[str, object], tuple[int, ...]]] = {
    # attention per layer with biases, without; GPT with, without; cache; MACs
    **{
        name: (VARIANTS[name], {}, counts)
        for names, counts in (
            ("qkv qkv_offset frozen_qk", (16640, 16384, 108353, 107841, 256, 3540992)),
            ("kv kv_offset kv_xsa kv_mask iq ik iv", (12480, 12288, 100033, 99649, 256, 3278848)),
            ("kv_rot kv_diag", (12512, 12320, 100097, 99713, 256, 3278848)),
            ("kv_complex", (12544, 12352, 100161, 99777, 256, 3278848)),
            ("kv_pair", (13504, 13312, 102081, 101697, 256, 3344384)),
            ("kv_rot_mqa", (6272, 6176, 87617, 87425, 64, 2885632)),
            ("kv_gate_head", (12740, 12544, 100553, 100161, 256, 3295232)),
            ("kv_gate", (16640, 16384, 108353, 107841, 256, 3540992)),
            ("uniform", (8320, 8192, 91713, 91457, 128, 2885632)),
            ("pos_only", (8572, 8444, 92217, 91961, 128, 2885632)),
            ("static_query", (12544, 12352, 100161, 99777, 256, 3278848)),
            ("q_kv", (12480, 12288, 100033, 99649, 128, 3278848)),
            ("q_kv_back", (12480, 12288, 100033, 99649, 128, 3278848)),
            ("q_gqa2_back", (10400, 10240, 95873, 95553, 64, 3147776)),
            ("q_mqa_back", (9360, 9216, 93793, 93505, 32, 3082240)),
            ("q_kv_apart", (14560, 14336, 104193, 103745, 192, 3409920)),
            ("q_gqa2_apart", (11440, 11264, 97953, 97601, 96, 3213312)),
            ("q_mqa_apart", (9880, 9728, 94833, 94529, 48, 3115008)),
            ("gta", (10920, 10752, 96913, 96577, 80, 3180544)),
            ("mla", (17128, 16928, 109329, 108929, 80, 3639296)),
            ("gla2", (15080, 14880, 105233, 104833, 80, 3508224)),
        )
        for name in names.split()
    },
    "gta, one group": (GTA_1, {}, (9880, 9728, 94833, 94529, 48, 3115008)),
    "k_rot": (K_ROT, {}, (8352, 8224, 91777, 91521, 128, 3016704)),
    "qkv, half rope": (VARIANTS["qkv"], {"rope_fraction": 0.5}, (16640, 16384, 108353, 107841, 256, 3540992)),
    "qkv, norm": (VARIANTS["qkv"], {"qk_norm": "rms_scale"}, (16672, 16416, 108417, 107905, 256, 3540992)),
    "kv, norm": (VARIANTS["kv"], {"qk_norm": "rms_scale"}, (12496, 12304, 100065, 99681, 256, 3278848)),
}


def gpt_config(biases: bool, **changes: object) -> ModelConfig:
    fields = {"dim": 64, "heads": 4, "layers": 2, "mlp_ratio": 4.0, "positions": "rope"}
    return small_model(**{**fields, "projection_bias": biases, "output_bias": biases, **changes})


@pytest.mark.parametrize("row", ROWS)
def test_the_integers_of_the_specification(row: str) -> None:
    variant, changes, counts = ROWS[row]
    for place, biases in enumerate((True, False)):
        config = gpt_config(biases, **changes)
        assert unsupported(variant, config, "gpt") is None
        assert attention_parameters(variant.attention, config, 32) == counts[place]
        assert parameters("gpt", variant, config, GPT) == counts[2 + place]
        model = MODELS["gpt"](config, variant, GPT)
        assert sum(p.numel() for p in model.parameters()) == counts[2 + place]
        assert cache_elements(variant, config) == counts[4]
        assert macs("gpt", variant, config, GPT) == counts[5]
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        frozen = (8320, 8192)[place] if row == "frozen_qk" else 0
        assert trained == counts[2 + place] - 2 * frozen


@pytest.mark.parametrize(
    ("name", "biases", "none"),
    [
        ("kv", 288, 288), ("kv_rot", 288, 288), ("k", 320, 320), ("uniform", 320, 320), ("static_query", 288, 287),
        ("q_mqa_back", 312, 312), ("kv_gate", 256, 256), ("gta", 300, 300), ("mla", 252, 252),
    ],
)  # fmt: skip
def test_matched_widths(name: str, biases: int, none: int) -> None:
    """`match: mlp` spends what attention saves against qkv on the MLP, for any row; kv_wide is kv with it."""
    for bias, expected in ((True, biases), (False, none)):
        config = gpt_config(bias, match="mlp")
        assert mlp_hidden(config, VARIANTS[name], 32) == expected
        full = parameters("gpt", VARIANTS["qkv"], config, GPT)
        assert abs(parameters("gpt", VARIANTS[name], config, GPT) - full) <= 2 * 129 / 2


def test_a_llama_like_block() -> None:
    llama = {"norm_kind": "rmsnorm", "activation": "swiglu", "mlp_bias": False, "final_norm": True}
    config = gpt_config(False, **llama)
    assert mlp_hidden(config, VARIANTS["qkv"], 32) == 171
    assert mlp_hidden(gpt_config(False, activation="swiglu"), VARIANTS["qkv"], 32) == 170
    counts = {"qkv": 107137, "kv": 98945, "kv_rot": 99009, "q_mqa_back": 92801, "gta": 95873, "mla": 108225}
    for name, count in counts.items():
        model = MODELS["gpt"](config, VARIANTS[name], GPT)
        assert sum(p.numel() for p in model.parameters()) == count == parameters("gpt", VARIANTS[name], config, GPT)


ROPE: dict[str, object] = {"positions": "rope"}
POSITIONS = ["learned", "rope", "alibi", "none"]


OPTIONS: dict[str, dict[str, object]] = {
    "rope": {"positions": "rope"},
    "half rope": {"positions": "rope", "rope_fraction": 0.5},
    "rope, norm": {"positions": "rope", "qk_norm": "rms"},
    "alibi": {"positions": "alibi"},
    "norm": {"positions": "none", "qk_norm": "rms"},
    "norm with scale": {"positions": "none", "qk_norm": "rms_scale"},
}


def attention_config(name: str, options: str) -> ModelConfig:
    heads = 8 if VARIANTS[name].attention.kv_heads == 4 else 4
    return small_model(dim=32, heads=heads, layers=3, **OPTIONS[options])


ALLOWED = [
    (name, options)
    for name in VARIANTS
    for options in OPTIONS
    if unsupported(VARIANTS[name], attention_config(name, options), "gpt") is None
]
DECODED = [
    (name, positions, qk_norm, fraction)
    for name in VARIANTS
    for positions in POSITIONS
    for qk_norm in ("none", "rms_scale")
    for fraction in ((1.0, 0.5) if positions == "rope" else (1.0,))
    if unsupported(
        VARIANTS[name], model_config("gpt", positions=positions, qk_norm=qk_norm, rope_fraction=fraction), "gpt"
    )
    is None
]


def test_only_these_are_refused() -> None:
    refused = {(name, options) for name in VARIANTS for options in OPTIONS} - set(ALLOWED)
    need_rope = {name for name, variant in VARIANTS.items() if variant.attention.needs_rope}
    without_rope = {options for options, fields in OPTIONS.items() if fields["positions"] != "rope"}
    with_norm = {options for options, fields in OPTIONS.items() if "qk_norm" in fields}
    expected = {(name, options) for name in need_rope for options in without_rope}
    expected |= {(name, options) for name in APART for options in with_norm}
    assert refused == expected | {("kv_norm", options) for options in with_norm}


@pytest.mark.parametrize("path", LENGTHS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("name", "options"), ALLOWED)
def test_every_variant_at_every_position_and_norm(name: str, options: str, causal: bool, path: str) -> None:
    """Against the naive reference, explicit and fused."""
    config = attention_config(name, options)
    attention = make_attention(VARIANTS[name].attention, config, LENGTHS[path])
    x = torch.randn(2, LENGTHS[path], 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = plain_attention(attention, x, causal=causal)
    torch.testing.assert_close(attention(x, causal=causal)[0], expected, **TIGHT)


@pytest.mark.parametrize(("name", "positions", "qk_norm", "fraction"), DECODED)
def test_decoding_with_a_cache_at_every_position(name: str, positions: str, qk_norm: str, fraction: float) -> None:
    model = make_model("gpt", name, positions=positions, qk_norm=qk_norm, rope_fraction=fraction)
    (tokens,) = make_inputs("gpt")
    cache = DecoderCache()
    pieces = [model(piece, cache) for piece in tokens.split([5, 1, 1, 3, 2], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), **TIGHT)
    assert cache.bytes == cache_elements(VARIANTS[name], model_config("gpt")) * 8 * tokens.numel()


def shared_norms(attention: Attention, length: int) -> Tensor:
    """Inputs whose keys all have the same length in each head: rows of an orthogonal matrix times one number."""
    with torch.no_grad():
        attention.projection.copy_(torch.eye(16, dtype=torch.float64).repeat(len(attention.projection) // 16, 1))
        attention.projection_bias.zero_()
    x = random_input(length).unflatten(-1, (4, 4))
    return (x / x.norm(dim=-1, keepdim=True)).flatten(-2)


class TestRope:
    def test_tied_logits_are_a_gram_matrix(self) -> None:
        """Theorem: with one map for queries and keys, logits stay symmetric and positive semidefinite under RoPE, the
        own logit does not depend on the position, and at equal norms it is the largest of its row."""
        attention = make_attention(VARIANTS["kv"].attention, small_model(positions="rope"), 9)
        logits = logits_of(attention, random_input(9))
        torch.testing.assert_close(logits, logits.transpose(-1, -2), **TIGHT)
        assert torch.linalg.eigvalsh(logits).min() > -1e-9
        without = make_attention(VARIANTS["kv"].attention, small_model(positions="none"), 9)
        diagonal = logits_of(without, random_input(9)).diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(logits.diagonal(dim1=-2, dim2=-1), diagonal, rtol=1e-6, atol=1e-7)
        logits = logits_of(attention, shared_norms(attention, 9))
        assert torch.equal(logits.argmax(dim=-1), torch.arange(9).expand(2, 4, 9))

    def test_one_content_gives_even_toeplitz_logits(self) -> None:
        attention = make_attention(VARIANTS["kv"].attention, small_model(positions="rope"), 9)
        logits = logits_of(attention, random_input(1).expand(2, 9, 16))
        torch.testing.assert_close(logits[..., 1:, 1:], logits[..., :-1, :-1], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(logits, logits.transpose(-1, -2), **TIGHT)
        assert torch.equal(logits.argmax(dim=-1), torch.arange(9).expand(2, 4, 9))

    @pytest.mark.parametrize("fraction", [1.0, 0.5])
    @pytest.mark.parametrize("name", ["kv", "qkv", "kv_rot", "q_kv", "q_kv_back", "k", "mqa", "kv_offset", *APART])
    def test_logits_depend_on_distances_alone(self, name: str, fraction: float) -> None:
        model = small_model(positions="rope", rope_fraction=fraction)
        attention = make_attention(VARIANTS[name].attention, model, 20)
        x = random_input(16)
        # The same tokens after seven others: rows and columns 7 … 15 of the longer text.
        short = logits_of(attention, x[:, 7:])
        whole = logits_of(attention, x)[..., 7:, 7:]
        inner = slice(1, None) if name == "kv_offset" else slice(None)  # the first key of a text has no token before it
        torch.testing.assert_close(short[..., inner], whole[..., inner], rtol=1e-5, atol=1e-6)

    def test_outputs_of_rotated_values_are_turned_back(self) -> None:
        """Shift invariance of the outputs, which raw rotated values would break."""
        attention = make_attention(VARIANTS["q_kv_back"].attention, small_model(positions="rope"), 20)
        x = random_input(9)
        early = attention(x)[0]
        rotary = attention.rotary
        rotary.cos, rotary.sin = rotary.cos[7:], rotary.sin[7:]
        torch.testing.assert_close(attention(x)[0], early, rtol=1e-5, atol=1e-6)
        attention.spec = VARIANTS["q_kv"].attention
        rotary.term.when = "stored"  # rotated values, and outputs as they come
        late = attention(x)[0]
        assert not torch.allclose(late, early, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("name", ["kv", *APART])
    def test_a_text_may_start_anywhere(self, name: str) -> None:
        for positions in ("rope", "alibi", "none", "learned") if name == "kv" else ("rope",):
            model = make_model("gpt", name, positions=positions)
            (tokens,) = make_inputs("gpt")
            alone = model(tokens[:, :5])
            shifted = _starting_at(model, name, tokens[:, :5], 4)
            assert torch.allclose(alone, shifted, rtol=1e-5, atol=1e-6) == (positions != "learned")

    def test_a_part_is_rotated_by_frequencies_of_its_own(self) -> None:
        """Half of a head: the other half stays as it is, and θ_t = base^(-2t/r) with r = h/2."""
        half, whole = (
            make_attention(VARIANTS["qkv"].attention, small_model(dim=32, positions="rope", rope_fraction=fraction), 9)
            for fraction in (0.5, 1.0)
        )
        x = random_input(9, 32)
        raw, keys = half.apply_maps(x, ("key",))["key"], half(x)[1].keys
        torch.testing.assert_close(keys[..., 4:], raw[..., 4:], **TIGHT)
        narrow = make_attention(VARIANTS["qkv"].attention, small_model(positions="rope"), 9).rotary  # h = 4
        torch.testing.assert_close(narrow.cos, half.rotary.cos)
        torch.testing.assert_close(keys[..., :4], narrow.term.keys(narrow, raw[..., :4], 0), **TIGHT)
        assert not torch.allclose(keys, whole(x)[1].keys)

    def test_norms_are_kept(self) -> None:
        attention = make_attention(VARIANTS["q_kv_back"].attention, small_model(positions="rope"), 9)
        plain = make_attention(VARIANTS["q_kv"].attention, small_model(positions="rope"), 9)
        x = random_input(9)
        rotated, raw = attention(x)[1].keys, plain(x)[1].keys
        torch.testing.assert_close(rotated.norm(dim=-1), raw.norm(dim=-1), rtol=1e-6, atol=1e-7)
        assert not torch.allclose(rotated, raw)


def _starting_at(model: torch.nn.Module, name: str, tokens: Tensor, first: int) -> Tensor:
    """The model's logits with every position moved by `first`: tables and rotations begin later."""
    moved = make_model("gpt", name, positions=_positions_of(model))
    moved.load_state_dict(model.state_dict())
    for module in moved.modules():
        for name in ("cos", "sin"):
            if hasattr(module, name):
                setattr(module, name, getattr(module, name)[first:])
    return moved.stack(moved.embed(tokens, first)) @ moved.head.weight.T + moved.head.bias


def _positions_of(model: torch.nn.Module) -> str:
    attention = model.stack.blocks[0].attention
    if hasattr(attention, "rotary"):
        return "rope"
    if hasattr(attention, "alibi"):
        return "alibi"
    return "learned" if model.embed.positions.learned else "none"


class TestALiBi:
    def test_causal_alibi_is_a_key_bias(self) -> None:
        attention = make_attention(VARIANTS["kv"].attention, small_model(positions="alibi"), 9)
        x = random_input(9)
        causal = attention(x, causal=True)[0]
        torch.testing.assert_close(causal, plain_attention(attention, x, causal=True), **TIGHT)
        assert torch.linalg.eigvalsh(logits_of(attention, x).exp()).min() > -1e-9

    @pytest.mark.parametrize("heads", [1, 4, 8, 6])
    def test_slopes(self, heads: int) -> None:
        from kvformer.spec.terms.logits import alibi_slopes

        slopes = alibi_slopes(heads)
        assert len(slopes) == heads
        if heads == 4:
            assert slopes.tolist() == [1 / 4, 1 / 16, 1 / 64, 1 / 256]
        if heads == 6:
            assert slopes[:4].tolist() == [1 / 4, 1 / 16, 1 / 64, 1 / 256]
            assert slopes[4:].tolist() == pytest.approx([2**-1, 2**-3])


class TestTurn:
    def turned(self, name: str, angle: float | Tensor) -> Attention:
        attention = make_attention(VARIANTS[name].attention, small_model(), 9)
        with torch.no_grad():
            attention.turn.angle.copy_(torch.as_tensor(angle).expand_as(attention.turn.angle))
        return attention

    def test_special_angles(self) -> None:
        x, kv = random_input(9), make_attention(VARIANTS["kv"].attention, small_model(), 9)
        rot = self.turned("kv_rot", 0.0)
        with torch.no_grad():
            kv.projection.copy_(rot.projection)
            kv.projection_bias.copy_(rot.projection_bias)
            kv.output.load_state_dict(rot.output.state_dict())
        torch.testing.assert_close(rot(x)[0], kv(x)[0], **TIGHT)
        plain = logits_of(kv, x)
        with torch.no_grad():
            rot.turn.angle.fill_(math.pi)
        torch.testing.assert_close(logits_of(rot, x), -plain, **TIGHT)
        with torch.no_grad():
            rot.turn.angle.fill_(math.pi / 2)
        quarter = logits_of(rot, x)
        torch.testing.assert_close(quarter, -quarter.transpose(-1, -2), **TIGHT)
        assert quarter.diagonal(dim1=-2, dim2=-1).abs().max() < 1e-12

    def test_symmetric_part_is_the_cosine(self) -> None:
        """kv_diag with a = cos φ is the symmetric half of kv_rot, and starts as it, seed by seed."""
        models = [make_model("gpt", name) for name in ("kv_rot", "kv_diag", "kv_complex")]
        rot, diag, both = (model.stack.blocks[1].attention for model in models)
        torch.testing.assert_close(diag.turn.scale, rot.turn.angle.cos(), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(both.turn.factor[..., 1], rot.turn.angle.sin(), rtol=1e-6, atol=1e-7)
        assert float(rot.turn.angle.detach().abs().max()) <= math.pi
        x = random_input(9, 32)
        logits, half = logits_of(rot, x), logits_of(diag, x)
        torch.testing.assert_close((logits + logits.transpose(-1, -2)) / 2, half, rtol=1e-6, atol=1e-6)
        assert torch.linalg.eigvalsh(half).min() < -1e-3, "indefinite"

    def test_under_rope_a_turn_is_a_place(self) -> None:
        """φ = -m·θ: the query stands at i - m, so one content at all places looks m tokens back."""
        attention = make_attention(VARIANTS["kv_rot"].attention, small_model(positions="rope"), 12)
        frequencies = 10_000.0 ** (-2 * torch.arange(2, dtype=torch.float64) / 4)
        with torch.no_grad():
            attention.turn.angle.copy_((-3 * frequencies).expand(4, 2))
        logits = logits_of(attention, random_input(1).expand(2, 12, 16))
        assert torch.equal(logits[..., 3:, :].argmax(dim=-1), torch.arange(9).expand(2, 4, 9))

    def test_the_size_of_a_scale_is_absorbed_by_the_map(self) -> None:
        attention = make_attention(VARIANTS["kv_diag"].attention, small_model(), 9)
        x = random_input(9)
        expected = attention(x)[0]
        with torch.no_grad():
            root = attention.turn.scale.abs().sqrt().repeat_interleave(2, dim=-1).flatten()
            rows = attention.rows["key"]
            attention.projection[rows] *= root[:, None]
            attention.projection_bias[rows] *= root
            attention.turn.scale.copy_(attention.turn.scale.sign())
        torch.testing.assert_close(attention(x)[0], expected, **TIGHT)

    def test_heads_from_one_key(self) -> None:
        attention = make_attention(VARIANTS["kv_rot_mqa"].attention, small_model(), 9)
        with torch.no_grad():
            attention.turn.angle[1] = attention.turn.angle[0]
        logits = logits_of(attention, random_input(9))
        torch.testing.assert_close(logits[:, 0], logits[:, 1], **TIGHT)
        assert not torch.allclose(logits[:, 0], logits[:, 2])

    def test_the_antisymmetric_share_at_the_start(self) -> None:
        """.46 of the logits' energy with φ from U(-π, π), .48 for qkv, 0 for kv."""
        shares = {}
        for name in ("kv_rot", "qkv", "kv"):
            model = make_model("gpt", name, dim=64, heads=4, projection_bias=False)
            logits = torch.cat(
                [logits_of(block.attention, random_input(40, 64, 16)) for block in model.stack.blocks], dim=1
            )
            odd = (logits - logits.transpose(-1, -2)).square().sum()
            shares[name] = float(odd / (4 * logits.square().sum()))
        assert shares["kv"] < 1e-20
        assert shares["kv_rot"] == pytest.approx(0.46, abs=0.06)
        assert shares["qkv"] == pytest.approx(0.48, abs=0.06)


class TestOffset:
    def test_the_asymmetry(self) -> None:
        attention = make_attention(VARIANTS["kv_offset"].attention, small_model(), 9)
        x = random_input(9)
        logits = logits_of(attention, x)
        keys = attention.apply_maps(x, ("key",))["key"][..., 2:]
        before = torch.cat([keys[:, :, :1], keys[:, :, :-1]], dim=2)
        cross = attention.scale * keys @ before.transpose(-1, -2)
        torch.testing.assert_close(logits - logits.transpose(-1, -2), cross - cross.transpose(-1, -2), **TIGHT)

    def test_a_token_finds_what_followed_its_like(self) -> None:
        """With all of the key offset and equal norms: row i's best key is i + 1, and with a causal mask and repeated
        tokens the successor of the last occurrence. (Here the shared half carries the token, the other is zero.)"""
        attention = make_attention(VARIANTS["kv_offset"].attention, small_model(dim=64), 12)
        with torch.no_grad():
            # One head's keys: the last half is the token's one-hot code, the first half is zero.
            attention.projection.zero_()
            attention.projection_bias.zero_()
            for head in range(4):
                for index in range(8):
                    attention.projection[16 * head + 8 + index, index] = 1.0
        tokens = torch.tensor([0, 1, 2, 3, 1, 4, 0, 5, 1])
        x = torch.zeros(1, 9, 64, dtype=torch.float64)
        x[0, torch.arange(9), tokens] = 1.0
        attention.recording = []
        attention(x, causal=True)
        logits = attention.recording[0].logits[0, 0]
        last = {4: 2, 6: 1, 8: 5}  # the 1 at 4 last stood at 1, so 2; the 0 at 6 at 0, so 1; the 1 at 8 at 4, so 5
        for row, column in last.items():
            best = (logits[row] == logits[row].max()).nonzero().flatten().tolist()
            assert column in best

    def test_beam_search_keeps_the_tails_with_their_rows(self) -> None:
        attention = make_attention(VARIANTS["qkv_offset"].attention, small_model(), 9)
        x = random_input(6, batch=3)
        rows = torch.tensor([2, 0, 0])
        cache = KeyValueCache()
        attention(x[:, :4], causal=True, cache=cache)
        cache.reorder(rows)
        later = attention(x[rows][:, 4:], causal=True, cache=cache)[0]
        torch.testing.assert_close(later, attention(x[rows], causal=True)[0][:, 4:], **TIGHT)


class TestExclusive:
    def test_outputs_have_no_part_along_the_own_value(self) -> None:
        attention = make_attention(VARIANTS["kv_xsa"].attention, small_model(), 9)
        mixed = []
        attention.output.register_forward_pre_hook(lambda module, inputs: mixed.append(inputs[0]))
        x = random_input(9)
        values = attention(x, causal=True)[1].values
        outputs = mixed[0].unflatten(-1, (4, 4)).transpose(1, 2)
        assert (outputs * values).sum(dim=-1).abs().max() < 1e-12
        assert outputs[:, :, 0].abs().max() < 1e-12, "the first causal token sees itself alone"

    def test_it_is_self_masking_with_a_gate(self) -> None:
        """z_i = (1 - a_ii) times the projection of what attention without the own token gives."""
        xsa, masked = (
            make_attention(VARIANTS[name].attention, small_model(), 9, seed=3) for name in ("kv_xsa", "kv_mask")
        )
        kv = make_attention(VARIANTS["kv"].attention, small_model(), 9, seed=3)
        x = random_input(9)
        for layer in (xsa, masked, kv):
            with torch.no_grad():
                layer.output.weight.copy_(torch.eye(16))
                layer.output.bias.zero_()
        kv.recording = []
        kv(x)
        own = kv.recording[0].weights.diagonal(dim1=-2, dim2=-1)[..., None]
        values = xsa(x)[1].values
        other = masked(x)[0].unflatten(-1, (4, 4)).transpose(1, 2)
        along = (other * values).sum(-1, keepdim=True) * values / values.square().sum(-1, keepdim=True)
        expected = ((1 - own) * (other - along)).transpose(1, 2).flatten(2)
        torch.testing.assert_close(xsa(x)[0], expected, **TIGHT)


class TestGate:
    def test_a_zero_gate_halves_the_outputs(self) -> None:
        for name in ("kv_gate", "kv_gate_head"):
            gated = make_attention(VARIANTS[name].attention, small_model(output_bias=False), 9)
            plain = make_attention(VARIANTS["kv"].attention, small_model(output_bias=False), 9)
            with torch.no_grad():
                gated.gate.weight.zero_()
                gated.gate.bias.zero_()
                plain.projection.copy_(gated.projection)
                plain.projection_bias.copy_(gated.projection_bias)
                plain.output.weight.copy_(gated.output.weight)
            x = random_input(9)
            torch.testing.assert_close(gated(x)[0], plain(x)[0] / 2, **TIGHT)

    def test_a_gate_per_head_is_one_per_element_with_equal_rows(self) -> None:
        per_head, per_element = (
            make_attention(VARIANTS[name].attention, small_model(), 9) for name in ("kv_gate_head", "kv_gate")
        )
        with torch.no_grad():
            for name in ("weight", "bias"):
                getattr(per_element.gate, name).copy_(getattr(per_head.gate, name).repeat_interleave(4, dim=0))
            per_element.projection.copy_(per_head.projection)
            per_element.projection_bias.copy_(per_head.projection_bias)
            per_element.output.load_state_dict(per_head.output.state_dict())
        x = random_input(9)
        torch.testing.assert_close(per_element(x)[0], per_head(x)[0], **TIGHT)

    @pytest.mark.parametrize("name", ["kv_gate", "kv_gate_head"])
    def test_a_gate_learns_nothing_where_there_is_nothing_to_gate(self, name: str) -> None:
        attention = make_attention(VARIANTS[name].attention, small_model(), 9)
        with torch.no_grad():
            attention.projection[attention.rows["value"]] = 0.0
            attention.projection_bias[attention.rows["value"]] = 0.0
        attention(random_input(9))[0].square().sum().backward()
        assert not attention.gate.weight.grad.any() and not attention.gate.bias.grad.any()

    @pytest.mark.parametrize("gate", ["head", "element"])
    @pytest.mark.parametrize("name", ["qkv", "q_mqa", "gta", "mla"])
    def test_it_goes_with_other_rows(self, name: str, gate: str) -> None:
        spec = replace(VARIANTS[name].attention, gate=gate, exclusive=True)
        model = small_model(positions="rope")
        assert unsupported(Variant("gated", "", "", spec), model, "gpt") is None
        attention, x = make_attention(spec, model, 9), random_input(9)
        torch.testing.assert_close(attention(x, causal=True)[0], plain_attention(attention, x, causal=True), **TIGHT)


class TestLowerBounds:
    def test_uniform_is_the_running_mean(self) -> None:
        attention = make_attention(VARIANTS["uniform"].attention, small_model(), 9)
        x = random_input(9)
        values = attention(x, causal=True)[1].values
        mean = values.cumsum(dim=2) / torch.arange(1, 10)[:, None]
        torch.testing.assert_close(
            attention(x, causal=True)[0], attention.output(mean.transpose(1, 2).flatten(2)), **TIGHT
        )
        rows = attention(x)[0]
        torch.testing.assert_close(rows, rows[:, :1].expand_as(rows), **TIGHT)

    def test_position_alone(self) -> None:
        attention = make_attention(VARIANTS["pos_only"].attention, small_model(), 9)
        first, second = logits_of(attention, random_input(9)), logits_of(attention, random_input(9, seed=2))
        assert torch.equal(first, second), "weights do not depend on the input"
        torch.testing.assert_close(first[..., 1:, 1:], first[..., :-1, :-1], **TIGHT)
        with torch.no_grad():
            attention.position.offsets.zero_()
        uniform = make_attention(VARIANTS["uniform"].attention, small_model(), 9)
        with torch.no_grad():
            uniform.projection.copy_(attention.projection)
            uniform.projection_bias.copy_(attention.projection_bias)
            uniform.output.load_state_dict(attention.output.state_dict())
        x = random_input(9)
        torch.testing.assert_close(attention(x, causal=True)[0], uniform(x, causal=True)[0], **TIGHT)

    def test_static_queries_give_equal_rows(self) -> None:
        attention = make_attention(VARIANTS["static_query"].attention, small_model(), 9)
        x = random_input(9)
        logits = logits_of(attention, x)
        torch.testing.assert_close(logits, logits[..., :1, :].expand_as(logits), **TIGHT)
        output = attention(x)[0]
        torch.testing.assert_close(output, output[:, :1].expand_as(output), **TIGHT)

    def test_frozen_maps_are_not_trained(self) -> None:
        model = make_model("gpt", "frozen_qk").float()
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
        (tokens,) = make_inputs("gpt")
        model(tokens).square().sum().backward()
        optimizer.step()
        for key, parameter in model.named_parameters():
            assert torch.equal(parameter, before[key]) == ("frozen" in key), key
            assert (parameter.grad is None) == ("frozen" in key)
        deviation = float(model.stack.blocks[0].attention.frozen_projection.std())
        assert deviation == pytest.approx(1 / math.sqrt(32), rel=0.1)


class TestIdentities:
    def test_ik_and_iq_are_transposed(self) -> None:
        """With one matrix W, the logits of ik are those of iq transposed."""
        ik, iq = (make_attention(VARIANTS[name].attention, small_model(), 9) for name in ("ik", "iq"))
        with torch.no_grad():
            for layer, name in ((ik, "query"), (iq, "key")):
                layer.projection[layer.rows[name]] = torch.arange(256, dtype=torch.float64).view(16, 16).sin()
                layer.projection_bias[layer.rows[name]] = 0.0
        x = random_input(9)
        torch.testing.assert_close(logits_of(ik, x), logits_of(iq, x).transpose(-1, -2), **TIGHT)

    def test_iv_copies_its_input(self) -> None:
        attention = make_attention(VARIANTS["iv"].attention, small_model(), 9)
        with torch.no_grad():
            attention.output.weight.copy_(torch.eye(16))
            attention.output.bias.zero_()
        x = random_input(9)
        torch.testing.assert_close(attention(x, causal=True)[0][:, :1], x[:, :1], **TIGHT)


class TestNorm:
    def test_the_size_of_a_token_does_not_matter(self) -> None:
        attention = make_attention(VARIANTS["kv"].attention, small_model(qk_norm="rms", projection_bias=False), 9)
        x = random_input(9)
        larger = x * torch.rand(2, 9, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).add(1)
        logits = logits_of(attention, x)
        torch.testing.assert_close(logits_of(attention, larger), logits, rtol=1e-3, atol=1e-4)
        own = logits.diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(own, torch.full_like(own, 2.0), rtol=1e-4, atol=1e-4)  # √h, up to the epsilon
        assert torch.equal(logits.argmax(dim=-1), torch.arange(9).expand(2, 4, 9)), "the own logit is the maximum"

    def test_a_scale_of_one_changes_nothing(self) -> None:
        scaled, plain = (make_model("gpt", "kv_rot", qk_norm=kind) for kind in ("rms_scale", "rms"))
        (tokens,) = make_inputs("gpt")
        torch.testing.assert_close(scaled(tokens), plain(tokens), **TIGHT)


REFUSED = {
    "turn without one map": (AttentionSpec(turn="phase"), {}, "gpt", "one map for queries and keys"),
    "q=k, kv_heads": (AttentionSpec("q=k", kv_heads=2), {}, "gpt", "would be one head"),
    "q=k=v, kv_heads": (AttentionSpec("q=k=v", kv_heads=2), {}, "gpt", "would be one head"),
    "pairwise, kv_heads": (AttentionSpec("pairwise", kv_heads=2), {}, "gpt", "does not allow"),
    "k=I, kv_heads": (AttentionSpec("k=I", kv_heads=2), {}, "gpt", "does not allow"),
    "q=k, layers_per_kv": (AttentionSpec("q=k", layers_per_kv=2), {}, "gpt", "a query of its own"),
    "uniform with a term": (AttentionSpec("none", "gain", scores="uniform"), {}, "gpt", "allows no"),
    "position with kv_heads": (AttentionSpec(kv_heads=2, scores="position"), {}, "gpt", "allows no"),
    "static, q=k": (AttentionSpec("q=k", scores="static"), {}, "gpt", "sharing none or k=v"),
    "frozen, k=v": (AttentionSpec("k=v", scores="frozen"), {}, "gpt", "values must stay trainable"),
    "frozen, layers": (AttentionSpec(scores="frozen", layers_per_kv=2), {}, "gpt", "layers_per_kv 1"),
    "back without rope": (AttentionSpec("k=v", rotary="back"), {}, "gpt", "model.positions rope"),
    "back without k=v": (AttentionSpec(rotary="back"), {"positions": "rope"}, "gpt", "values that are keys"),
    "apart without k=v": (AttentionSpec(rotary="apart"), ROPE, "gpt", "needs sharing k=v"),
    "shared part, q=k=v": (AttentionSpec("q=k=v", rotary="apart_shared"), ROPE, "gpt", "needs sharing k=v"),
    "apart without rope": (SPEC_S1, {}, "gpt", "model.positions rope"),
    "latents without rope": (AttentionSpec(latents=1), {"positions": "alibi"}, "gpt", "model.positions rope"),
    "latents, k=v": (AttentionSpec("k=v", latents=1), ROPE, "gpt", "allow no sharing"),
    "latents, kv_heads": (AttentionSpec(kv_heads=2, latents=1), ROPE, "gpt", "allow no sharing, kv_heads"),
    "latents, layers": (AttentionSpec(layers_per_kv=2, latents=1), ROPE, "gpt", "allow no"),
    "latents, offset": (AttentionSpec(offset_keys=True, latents=1), ROPE, "gpt", "allow no"),
    "latents, static": (AttentionSpec(scores="static", latents=2), ROPE, "gpt", "rotary or scores"),
    "latents, unit keys": (AttentionSpec(normalise_keys=True, latents=1), ROPE, "gpt", "normalised keys"),
    "apart, unit keys": (replace(SPEC_S1, normalise_keys=True), ROPE, "gpt", "rotary 'apart' forbids"),
    "back, unit keys": (AttentionSpec("k=v", rotary="back", normalise_keys=True), ROPE, "gpt", "'back' forbids"),
    "apart, seq2seq": (SPEC_S1, ROPE, "seq2seq", "cross-attention (seq2seq)"),
    "latents, seq2seq": (AttentionSpec(latents=1), ROPE, "seq2seq", "cross-attention (seq2seq)"),
    "apart in a set": (SPEC_S1, ROPE, "set_encoder", "a set has no order"),
    "latents in a set": (AttentionSpec(latents=1), ROPE, "set_encoder", "a set has no order"),
    "apart, norm": (SPEC_S1, {**ROPE, "qk_norm": "rms"}, "gpt", "model.qk_norm must be none"),
    "latents, norm": (AttentionSpec(latents=1), {**ROPE, "qk_norm": "rms"}, "gpt", "model.qk_norm must be none"),
    "apart, width 6": (SPEC_S1, {**ROPE, "dim": 24}, "gpt", "multiple of 4, not 6"),
    "apart, a quarter": (SPEC_S1, {**ROPE, "dim": 32, "rope_fraction": 0.25}, "gpt", "must be 1 or 0.5, not 0.25"),
    "two latents, three heads": (AttentionSpec(latents=2), {**ROPE, "dim": 24, "heads": 3}, "gpt", "a multiple of it"),
    "offset, k=v": (AttentionSpec("k=v", offset_keys=True), {}, "gpt", "no longer share a cache"),
    "rope in a set": (AttentionSpec(), {"positions": "rope"}, "set_encoder", "a set has no order"),
    "alibi in a set": (AttentionSpec(), {"positions": "alibi"}, "set_encoder", "a set has no order"),
    "offset in a set": (AttentionSpec(offset_keys=True), {}, "set_encoder", "a set has no order"),
    "position in a set": (AttentionSpec(scores="position"), {}, "set_encoder", "a set has no order"),
    "rope, odd width": (AttentionSpec(), {"positions": "rope", "dim": 12}, "gpt", "must be even"),
    "turn, odd width": (AttentionSpec("q=k", turn="phase"), {"dim": 12}, "gpt", "must be even"),
    "offset, width 2": (AttentionSpec(offset_keys=True), {"dim": 8}, "gpt", "multiple of 4"),
    "no pair": (AttentionSpec(), {"positions": "rope", "rope_fraction": 0.1}, "gpt", "rotates no pair"),
    "two norms": (AttentionSpec("q=k", normalise_keys=True), {"qk_norm": "rms"}, "gpt", "model.qk_norm must be none"),
    "unknown sharing": (AttentionSpec("q=v"), {}, "gpt", "unknown sharing 'q=v'"),
    "unknown term": (AttentionSpec("q=k", "pos3d"), {}, "gpt", "unknown position 'pos3d'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_exist_is_refused_in_one_line(case: str) -> None:
    spec, changes, architecture, words = REFUSED[case]
    reason = unsupported(Variant("mine", "", "", spec), small_model(**changes), architecture)
    assert reason is not None and words in reason and "\n" not in reason
    assert reason.startswith("variant 'mine' ")


def test_fields_at_their_default_stay_out_of_definitions() -> None:
    assert VARIANTS["kv"].definition == {
        "attention": {
            "sharing": "q=k", "position": "none", "kv_heads": None, "layers_per_kv": 1, "normalise_keys": False,
            "mask_self": False, "small_position_init": False,
        },
        "widen_mlp": False,
    }  # fmt: skip
    assert VARIANTS["kv_rot"].definition["attention"]["turn"] == "phase"
    assert "rope_base" not in ModelConfig().identity()
    assert ModelConfig(rope_base=500.0).identity()["rope_base"] == 500.0


@pytest.mark.parametrize("architecture", SHAPES)
def test_every_architecture_with_every_position(architecture: str) -> None:
    """Outputs are finite, counts are the formula's, and the block options go together with all of them."""
    for positions in ("rope", "alibi", "none"):
        for name in ("qkv", "kv_rot", "kv_xsa", "q_kv"):
            config = model_config(
                architecture, positions=positions, norm_kind="rmsnorm", activation="swiglu", mlp_bias=False,
                qk_norm="rms_scale", head_kind="linear",
            )  # fmt: skip
            if reason := unsupported(VARIANTS[name], config, architecture):
                assert "a set has no order" in reason
                continue
            model = MODELS[architecture](config, VARIANTS[name], SHAPES[architecture])
            initialise(model, config.init, 0)
            model = model.double().eval()
            assert torch.isfinite(model(*make_inputs(architecture))).all()
            count = sum(p.numel() for p in model.parameters())
            assert count == parameters(architecture, VARIANTS[name], config, SHAPES[architecture])
