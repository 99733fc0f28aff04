"""Rows whose keys have a rotated part with a map of its own: S1, GTA, MLA, GLA-2."""

from dataclasses import replace

import pytest
import torch
from models import SHAPES, make_inputs, make_model, model_config
from references import logits_of, make_attention, plain_attention, random_input, small_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kvformer.models.attention import FUSED_FROM, Attention, DecoderCache, KeyValueCache
from kvformer.models.build import MODELS
from kvformer.models.initial_weights import initialise
from kvformer.spec.explanations import explain
from kvformer.spec.formulas import cache_elements, macs, parameters
from kvformer.spec.refusals import unsupported
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.terms.latents import Latents
from kvformer.spec.variants import VARIANTS, AttentionSpec, Variant

TIGHT = {"rtol": 1e-10, "atol": 1e-11}
LENGTHS = {"explicit": 7, "fused": FUSED_FROM + 3}
APART = [name for name, variant in VARIANTS.items() if variant.attention.rotates_apart]


class Absorbed(Latents):
    """MLA without expanding keys and values: W_UK acts on the queries and W_UV on the mixed latents."""

    def queries(self, p: nn.Module, queries: Tensor, first: int) -> Tensor:
        content, part = super().queries(p, queries, first).split([self.head_dim, self.rotated], dim=-1)
        return torch.cat([torch.einsum("bhnd,hdw->bhnw", content, p.up_key), part], dim=-1)

    def read(self, p: nn.Module, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([values, keys], dim=-1), values  # one key head for all

    def outputs(self, p: nn.Module, outputs: Tensor, x: Tensor, values: Tensor, first: int) -> Tensor:
        return torch.einsum("bhnw,hdw->bhnd", outputs, p.up_value)


class TestApart:
    def model(self, **changes: object) -> ModelConfig:
        return small_model(**{"dim": 32, "positions": "rope", **changes})

    @pytest.mark.parametrize("length", LENGTHS.values())
    def test_absorbed_is_expanded(self, length: int) -> None:
        """The same outputs from the latent alone, in a whole pass and from a running cache."""
        attention = make_attention(VARIANTS["mla"].attention, self.model(), length)
        x, cache = random_input(length, 32), KeyValueCache()
        expanded = attention(x, causal=True)[0]
        attention.rotary.term = Absorbed(self.model(), length, 1)
        torch.testing.assert_close(attention(x, causal=True)[0], expanded, **TIGHT)
        pieces = [attention(piece, causal=True, cache=cache)[0] for piece in x.split([3, 1, 1, length - 5], dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), expanded, **TIGHT)

    @pytest.mark.parametrize(("name", "parts"), [("mla", (1, 16)), ("gla2", (2, 8))])
    def test_a_decoder_caches_the_normed_latent_and_the_rotated_part(self, name: str, parts: tuple[int, int]) -> None:
        attention = make_attention(VARIANTS[name].attention, self.model(), 9)
        x, cache = random_input(9, 32), KeyValueCache()
        attention(x, causal=True, cache=cache)
        assert cache.content.keys.shape == (2, 1, 9, 4)
        assert cache.content.values.shape == (2, parts[0], 9, parts[1])
        sizes = (cache.content.values / attention.rotary.scale[:, None, :]).square().mean(dim=-1)
        torch.testing.assert_close(sizes, torch.ones_like(sizes), rtol=1e-4, atol=1e-4)

    def test_gta_with_one_group_is_apart_with_one_group(self) -> None:
        specs = AttentionSpec("k=v", kv_heads=1, rotary="apart_shared"), VARIANTS["q_mqa_apart"].attention
        ours, theirs = (make_attention(spec, self.model(), 9) for spec in specs)
        x = random_input(9, 32)
        assert torch.equal(ours(x, causal=True)[0], theirs(x, causal=True)[0])

    @pytest.mark.parametrize("name", ["q_kv_apart", "q_gqa2_apart", "q_mqa_apart", "gta"])
    def test_without_rotated_parts_the_first_half_decides(self, name: str) -> None:
        """k^r = 0 and the last half of the queries 0: K = V on h - r components, and no positions."""
        attention = make_attention(VARIANTS[name].attention, self.model(), 9)
        with torch.no_grad():
            for matrix in (attention.projection, attention.projection_bias):
                matrix[attention.rows["rotary"]] = 0.0
                matrix[attention.rows["query"]].unflatten(0, (4, 8))[:, 4:] = 0.0
        x = random_input(9, 32)
        queries, values = (attention.apply_maps(x, (role,))[role] for role in ("query", "key"))
        values = values.repeat_interleave(4 // values.shape[1], dim=1)
        expected = attention.scale * queries[..., :4] @ values[..., :4].transpose(-1, -2)
        torch.testing.assert_close(logits_of(attention, x), expected, **TIGHT)
        mixed = torch.softmax(expected, dim=-1) @ values
        torch.testing.assert_close(attention(x)[0], attention.output(mixed.transpose(1, 2).flatten(2)), **TIGHT)

    @pytest.mark.parametrize("name", ["q_kv_apart", "q_gqa2_apart", "gta"])
    def test_logits_train_the_first_half_of_the_values_alone(self, name: str) -> None:
        attention = make_attention(VARIANTS[name].attention, self.model(), 9)
        loss = live_logits(attention, random_input(9, 32)).square().sum()
        gradient = torch.autograd.grad(loss, attention.projection)[0][attention.rows["key"]].unflatten(0, (-1, 8)).abs()
        assert gradient[:, :4].min() > 0 and gradient[:, 4:].max() == 0

    @pytest.mark.parametrize("name", ["gta", "mla", "gla2"])
    def test_the_shared_part_collects_the_gradients_of_all_heads(self, name: str) -> None:
        attention = make_attention(VARIANTS[name].attention, self.model(), 9)
        losses = live_logits(attention, random_input(9, 32)).square().sum(dim=(0, 2, 3))
        single, together = (
            [torch.autograd.grad(loss, attention.projection, retain_graph=True)[0] for loss in part]
            for part in (losses, [losses.sum()])
        )
        rows = attention.rows["rotary"]
        torch.testing.assert_close(sum(gradient[rows] for gradient in single), together[0][rows], **TIGHT)
        assert all(gradient[rows].abs().min() > 0 for gradient in single)

    def test_two_latents_are_one_with_blocks(self) -> None:
        """GLA-2 is MLA with W_UK and W_UV that read one half of the latent in each half of the heads."""
        one, two = (make_attention(VARIANTS[name].attention, self.model(), 9) for name in ("mla", "gla2"))
        random = torch.Generator().manual_seed(3)
        part, latents = (
            torch.randn(2, heads, 9, width, dtype=torch.float64, generator=random) for heads, width in ((1, 4), (2, 8))
        )
        with torch.no_grad():
            for name in ("up_key", "up_value"):
                wide, narrow = getattr(one.rotary, name), getattr(two.rotary, name)
                wide.zero_()
                wide[:2, :, :8], wide[2:, :, 8:] = narrow[:2], narrow[2:]
        joined = latents.transpose(1, 2).flatten(2)[:, None]
        both = (layer.rotary.term.read(layer.rotary, part, values) for layer, values in ((one, joined), (two, latents)))
        for ours, theirs in zip(*both, strict=True):
            torch.testing.assert_close(ours, theirs, **TIGHT)

    def test_content_logits_have_a_small_rank(self) -> None:
        """At most min(h, d_c) of 24 tokens, for the part of the logits without positions."""
        attention = make_attention(VARIANTS["mla"].attention, self.model(), 24)
        with torch.no_grad():
            attention.projection[attention.rows["rotary"]] = 0.0
            attention.projection_bias[attention.rows["rotary"]] = 0.0
        assert torch.linalg.matrix_rank(logits_of(attention, random_input(24, 32))).max() == 8

    @pytest.mark.parametrize("name", APART)
    def test_beam_search_keeps_the_parts_with_their_rows(self, name: str) -> None:
        attention = make_attention(VARIANTS[name].attention, self.model(), 9)
        x, cache, rows = random_input(6, 32, batch=3), KeyValueCache(), torch.tensor([2, 0, 0])
        attention(x[:, :4], causal=True, cache=cache)
        cache.reorder(rows)
        later = attention(x[rows][:, 4:], causal=True, cache=cache)[0]
        torch.testing.assert_close(later, attention(x[rows], causal=True)[0][:, 4:], **TIGHT)

    @pytest.mark.parametrize("length", [12, 100], ids=["explicit", "fused"])
    @pytest.mark.parametrize("name", APART)
    def test_a_later_token_changes_no_earlier_output(self, name: str, length: int) -> None:
        shape = Shape(length=length, inputs=11, outputs=11)
        model = make_model("gpt", name, shape=shape, positions="rope")
        (tokens,) = make_inputs("gpt", shape=shape)
        changed = tokens.clone()
        changed[:, -3:] = (changed[:, -3:] + 1) % 11
        torch.testing.assert_close(model(changed)[:, :-3], model(tokens)[:, :-3], **TIGHT)

    @pytest.mark.parametrize("name", APART)
    def test_every_parameter_learns(self, name: str) -> None:
        model = make_model("gpt", name, positions="rope")
        output = model(*make_inputs("gpt", batch=8))
        (output * torch.randn(output.shape, dtype=torch.float64)).sum().backward()
        assert [key for key, parameter in model.named_parameters() if not parameter.grad.abs().max()] == []

    @pytest.mark.parametrize("name", APART)
    def test_shared_maps_start_equal(self, name: str) -> None:
        """As in q_kv (or qkv) of the same seed, where rows have the same width."""
        ours, base = (
            make_model("gpt", variant, positions="rope").stack.blocks[1].attention
            for variant in (name, "qkv" if VARIANTS[name].attention.latents else "q_kv")
        )
        assert torch.equal(ours.output.weight, base.output.weight)
        for role in ours.widths.keys() & base.widths.keys():
            if ours.widths[role] == base.widths[role]:
                assert torch.equal(*(layer.projection[layer.rows[role]] for layer in (ours, base)))

    @pytest.mark.parametrize("architecture", ["encoder", "vit", "gpt"])
    @pytest.mark.parametrize("name", APART)
    def test_counts_in_every_architecture_that_has_them(self, name: str, architecture: str) -> None:
        for options in ({}, {"projection_bias": False, "norm_kind": "rmsnorm", "activation": "swiglu"}):
            config, shape = model_config(architecture, positions="rope", **options), SHAPES[architecture]
            model = make_model(architecture, name, positions="rope", **options)
            assert sum(p.numel() for p in model.parameters()) == parameters(architecture, VARIANTS[name], config, shape)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                assert torch.isfinite(model(*make_inputs(architecture, batch=1))).all()
            assert counter.get_total_flops() == 2 * macs(architecture, VARIANTS[name], config, shape)

    @pytest.mark.parametrize("name", APART)
    def test_what_is_cached_is_explained(self, name: str) -> None:
        latents = VARIANTS[name].attention.latents
        assert f"a decoder caches the rotated part and the {'latent' if latents else 'values'}" in explain(
            VARIANTS[name]
        )
        assert ("need not be expanded" in explain(VARIANTS[name])) == (name == "mla")

    @pytest.mark.parametrize("maps", ["layer", "head"])
    @pytest.mark.parametrize("length", LENGTHS.values())
    @pytest.mark.parametrize("name", ["gta", "mla", "gla2"])
    def test_they_go_with_terms_on_the_logits(self, name: str, length: int, maps: str) -> None:
        """A key bias joins keys that are wider than values; masks and XSA see the values as the heads read them."""
        spec = replace(VARIANTS[name].attention, position="pos2d", mask_self=True, exclusive=True)
        model = self.model(position_maps=maps)
        assert unsupported(Variant("mine", "", "", spec), model, "gpt") is None
        attention, x = make_attention(spec, model, length), random_input(length, 32)
        torch.testing.assert_close(attention(x, causal=True)[0], plain_attention(attention, x, causal=True), **TIGHT)

    def test_layers_may_share_what_is_stored(self) -> None:
        variant = Variant("mine", "", "", AttentionSpec("k=v", kv_heads=2, rotary="apart_shared", layers_per_kv=2))
        config = model_config("gpt", positions="rope")
        assert unsupported(variant, config, "gpt") is None
        model = MODELS["gpt"](config, variant, SHAPES["gpt"])
        initialise(model, config.init, 0)
        model, cache = model.double().eval(), DecoderCache()
        (tokens,) = make_inputs("gpt")
        pieces = [model(piece, cache) for piece in tokens.split([5, 1, 6], dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), **TIGHT)
        assert sum(p.numel() for p in model.parameters()) == parameters("gpt", variant, config, SHAPES["gpt"])
        assert cache.bytes == cache_elements(variant, config) * 8 * tokens.numel()


def live_logits(attention: Attention, x: Tensor) -> Tensor:
    """The logits (B, H, N, N), through which gradients flow."""
    queries, stored, _ = attention.project(x, None, None, None)
    keys, _ = attention.rotary.term.read(attention.rotary, *stored)
    return queries @ keys.repeat_interleave(attention.heads // keys.shape[1], dim=1).transpose(-1, -2)
