"""The models around the attention: PyTorch's layers as reference, causality, gradients, shared initial weights."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from models import HEADS, PAIRS, SHAPES, make_inputs, make_model, model_config, supported
from references import role_parameters
from torch import nn

from kvformer.models.attention import Attention
from kvformer.models.attention.term_module import TermModule
from kvformer.models.blocks import Block
from kvformer.models.decoding import generate
from kvformer.spec.position_codes import sinusoids
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS

TIGHT = {"rtol": 1e-10, "atol": 1e-11}
DECODERS = [(kind, name) for kind, name in PAIRS if kind in ("gpt", "seq2seq")]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_qkv_block_is_torch_transformer_layer(norm: str, activation: str, causal: bool) -> None:
    config = model_config("encoder", norm=norm, activation=activation, mlp_ratio=3.0)
    block = Block(config, VARIANTS["qkv"], 9).double().eval()
    theirs = nn.TransformerEncoderLayer(
        config.dim,
        HEADS,
        3 * config.dim,
        0.0,
        activation,
        norm_first=norm == "pre",
        batch_first=True,
        dtype=torch.float64,
    ).eval()
    random = torch.Generator().manual_seed(0)
    pairs = {
        "self_attn.in_proj_weight": block.attention.projection,
        "self_attn.in_proj_bias": block.attention.projection_bias,
        "self_attn.out_proj.weight": block.attention.output.weight,
        "self_attn.out_proj.bias": block.attention.output.bias,
        "linear1.weight": block.mlp[0].weight,
        "linear1.bias": block.mlp[0].bias,
        "linear2.weight": block.mlp[3].weight,
        "linear2.bias": block.mlp[3].bias,
        "norm1.weight": block.attention_norm.weight,
        "norm1.bias": block.attention_norm.bias,
        "norm2.weight": block.mlp_norm.weight,
        "norm2.bias": block.mlp_norm.bias,
    }
    assert len(pairs) == len(list(block.parameters())) == len(list(theirs.parameters()))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.normal_(0, 0.3, generator=random)
            pairs[name].copy_(parameter)
    x = torch.randn(2, 9, config.dim, dtype=torch.float64, generator=random)
    mask = nn.Transformer.generate_square_subsequent_mask(9, dtype=torch.float64) if causal else None
    torch.testing.assert_close(block(x, causal=causal)[0], theirs(x, src_mask=mask), **TIGHT)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_qkv_decoder_block_is_torch_decoder_layer(norm: str) -> None:
    config = model_config("seq2seq", norm=norm)
    block = Block(config, VARIANTS["qkv"], 9, cross=True).double().eval()
    theirs = nn.TransformerDecoderLayer(
        config.dim, HEADS, 2 * config.dim, 0.0, "relu", norm_first=norm == "pre", batch_first=True, dtype=torch.float64
    ).eval()
    ours = [
        block.attention.projection, block.attention.projection_bias, *block.attention.output.parameters(),
        block.cross_attention.projection, block.cross_attention.projection_bias,
        *block.cross_attention.output.parameters(), *block.mlp[0].parameters(), *block.mlp[3].parameters(),
        *block.attention_norm.parameters(), *block.cross_norm.parameters(), *block.mlp_norm.parameters(),
    ]  # fmt: skip
    assert len(ours) == len(list(block.parameters()))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter, target in zip(theirs.parameters(), ours, strict=True):
            parameter.normal_(0, 0.3, generator=random)
            target.copy_(parameter)
    x, memory = (torch.randn(2, n, config.dim, dtype=torch.float64, generator=random) for n in (9, 7))
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = True
    expected = theirs(
        x,
        memory,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(9, dtype=torch.float64),
        memory_key_padding_mask=padding,
    )
    torch.testing.assert_close(block(x, True, None, memory, padding)[0], expected, **TIGHT)


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_every_parameter_gets_a_gradient(kind: str, name: str) -> None:
    model = make_model(kind, name, tied_output=kind == "gpt")
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, TermModule) and hasattr(module, "offsets"):
                module.offsets.normal_(generator=torch.Generator().manual_seed(1))
    output = model(*make_inputs(kind, batch=8))
    (output * torch.randn(output.shape, dtype=torch.float64)).sum().backward()
    dead = {
        key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.abs().max()
    }
    # The bias of kv_pos's map adds the same to all logits of a row, which the softmax does not see. Frozen maps are not
    # trained, and where queries do not depend on the decoder, nothing before cross-attention reaches them.
    expected = {key for key, _ in model.named_parameters() if key.endswith("position.bias") or "frozen" in key}
    spec = VARIANTS[name].attention
    if spec.scores in ("uniform", "position", "static"):
        expected |= {key for key, _ in model.named_parameters() if "cross_norm" in key}
    assert dead == expected
    assert any(key.endswith("position.bias") for key in dead) == (spec.position == "pos2d")
    for module in model.modules():
        if isinstance(module, Attention):
            weight = module.projection
            for rows in module.rows.values():
                assert weight is not None and weight.grad[rows].abs().min() > 0


@pytest.mark.parametrize("length", [12, 100], ids=["explicit", "fused"])
@pytest.mark.parametrize(("kind", "name"), DECODERS)
def test_a_later_token_changes_no_earlier_output(kind: str, name: str, length: int) -> None:
    shape = Shape(length=length, inputs=11, outputs=13 if kind == "seq2seq" else 11, target_inputs=13)
    model = make_model(kind, name, shape=shape)
    *source, target = make_inputs(kind, shape=shape)
    before = model(*source, target)
    for place in (1, length // 2, length - 1):
        changed = target.clone()
        changed[:, place:] = (changed[:, place:] + 1) % 11
        after = model(*source, changed)
        torch.testing.assert_close(after[:, :place], before[:, :place], **TIGHT)
        assert not torch.allclose(after[:, place:], before[:, place:])
    changed = target.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 11
    assert ((model(*source, changed) - before).abs().amax(dim=-1) > 1e-9).all(), "every output sees the first token"


@pytest.mark.parametrize(("kind", "name"), [p for p in PAIRS if p[0] in ("encoder", "vit", "set_encoder", "seq2seq")])
def test_an_encoder_sees_everything(kind: str, name: str) -> None:
    model = make_model(kind, name)
    inputs = make_inputs(kind)
    before = model(*inputs)
    changed = inputs[0].clone()
    if kind in ("encoder", "seq2seq"):
        changed[:, -1] = (changed[:, -1] + 1) % 10
    else:
        changed[:, ..., -1, :] += 1
    after = model(changed, *inputs[1:])
    assert ((after - before).abs().flatten(1) > 1e-12).all()


@pytest.mark.parametrize("name", supported("seq2seq"))
def test_padding_of_source_and_target_is_invisible(name: str) -> None:
    model = make_model("seq2seq", name)
    source, target = make_inputs("seq2seq")
    source_padding, target_padding = (torch.zeros(rows.shape, dtype=torch.bool) for rows in (source, target))
    source_padding[1, 5:], target_padding[1, 4:] = True, True
    before = model(source, target, source_padding)
    other_source = torch.where(source_padding, (source + 1) % 11, source)
    other_target = torch.where(target_padding, (target + 1) % 13, target)
    after = model(other_source, other_target, source_padding)
    torch.testing.assert_close(after[~target_padding], before[~target_padding], **TIGHT)
    alone = model(source[1:, :5], target[1:, :4])
    torch.testing.assert_close(before[1:, :4], alone, **TIGHT)
    torch.testing.assert_close(model(source, target, source_padding, ~target_padding), before[~target_padding], **TIGHT)


@pytest.mark.parametrize("name", [n for n in supported("set_encoder") if VARIANTS[n].attention.position == "none"])
def test_a_set_has_no_order(name: str) -> None:
    model = make_model("set_encoder", name)
    (features,) = make_inputs("set_encoder")
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model(features[:, order]), model(features)[:, order], **TIGHT)


def test_kv_pos_knows_the_place_of_a_set_element() -> None:
    """The leak that experiments.md warns of: the column code tells positions apart even where the input has none."""
    model = make_model("set_encoder", "kv_pos")
    (features,) = make_inputs("set_encoder")
    order = torch.tensor([3, 0, 4, 1, 2])
    assert not torch.allclose(model(features[:, order]), model(features)[:, order], atol=1e-6)


def test_patches_are_those_of_a_convolution() -> None:
    model = make_model("vit", "qkv")
    (images,) = make_inputs("vit")
    kernel = model.embed.weight.view(-1, 3, 4, 4)
    expected = F.conv2d(images, kernel, model.embed.bias, stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.embed(model.patches(images)), expected, **TIGHT)


def test_symbols_are_one_hot_vectors_through_a_linear_map() -> None:
    model = make_model("encoder", "kv")
    (symbols,) = make_inputs("encoder")
    expected = F.one_hot(symbols, 10).double() @ model.embed.weight + model.embed.bias
    torch.testing.assert_close(model.embed(symbols), expected, **TIGHT)


def test_input_positions_are_sinusoids() -> None:
    """PE(p, 2t) = sin(p / 10000^(2t/d)), PE(p, 2t+1) = cos of it; in halves, all sines first."""
    angles = torch.arange(7.0, dtype=torch.float64)[:, None] / 10_000 ** (
        torch.arange(0, 8, 2, dtype=torch.float64) / 8
    )
    interleaved = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    torch.testing.assert_close(torch.from_numpy(sinusoids(7, 8)), interleaved.float())
    halves = torch.cat([angles.sin(), angles.cos()], dim=1)
    torch.testing.assert_close(torch.from_numpy(sinusoids(7, 8, halves=True)), halves.float())


@pytest.mark.parametrize("name", supported("gpt"))
def test_generation_with_a_cache_is_generation_without(name: str) -> None:
    """Greedy text of the cached decoder is the argmax of full passes, and it goes on beyond the context."""
    model = make_model("gpt", name)
    (prompt,) = make_inputs("gpt")
    prompt = prompt[:, :4]
    text = generate(model, prompt, 12)
    assert torch.equal(text[:, :4], prompt)
    for place in range(4, 12):
        assert torch.equal(text[:, place], model(text[:, :place])[:, -1].argmax(-1))
    beyond = generate(model, prompt, 20)
    assert torch.equal(beyond[:, :12], text)
    assert beyond.shape == (2, 20)


def test_sampling_follows_its_generator_and_the_temperature() -> None:
    model = make_model("gpt", "kv_pos")
    prompt = make_inputs("gpt")[0][:, :3]
    first, again, other = (generate(model, prompt, 11, 1.0, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(generate(model, prompt, 11, 1e-6, torch.Generator().manual_seed(0)), generate(model, prompt, 11))


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, n in PAIRS if n != "qkv"])
def test_variants_share_initial_weights(kind: str, name: str) -> None:
    """The same seed gives every variant the same weights wherever it has the same map as qkv."""
    base, other = (make_model(kind, variant, init="default") for variant in ("qkv", name))
    shapes = {key: parameter.shape for key, parameter in base.named_parameters()}
    equal = [
        key
        for key, parameter in other.named_parameters()
        if "projection" not in key and shapes.get(key) == parameter.shape
    ]
    assert len(equal) > 20 and any("mlp" in key for key in equal)
    mine, theirs = dict(other.named_parameters()), dict(base.named_parameters())
    widened = ".mlp." if VARIANTS[name].widen_mlp else "nothing"
    for key in equal:
        assert torch.equal(mine[key], theirs[key]) or widened in key, key
    for a, b in zip(_attentions(base), _attentions(other), strict=True):
        for role in set(b.rows) & set(a.rows):
            for ours, qkvs in zip(role_parameters(b, role), role_parameters(a, role), strict=True):
                assert torch.equal(ours, qkvs[: len(ours)]) or len(ours) < len(qkvs)
                assert torch.equal(ours, qkvs) or len(ours) < len(qkvs)


def _attentions(model: nn.Module) -> list[Attention]:
    return [module for module in model.modules() if isinstance(module, Attention)]


def test_fused_xavier_gives_the_same_draws_up_to_its_bound() -> None:
    """Xavier over the fused d→3d or 2d map: bounds √(6/4d) and √(6/3d), so kv's maps are qkv's times √(4/3)."""
    base, other = (make_model("encoder", variant, init="xavier_fused") for variant in ("qkv", "kv"))
    for a, b in zip(_attentions(base), _attentions(other), strict=True):
        for role in ("key", "value"):
            (ours, bias), (qkvs, _) = role_parameters(b, role), role_parameters(a, role)
            torch.testing.assert_close(ours, qkvs * (4 / 3) ** 0.5, rtol=1e-6, atol=0)
            assert float(qkvs.detach().abs().max()) <= (6 / (4 * qkvs.shape[1])) ** 0.5
            assert bias is not None and not bias.detach().any()


@pytest.mark.parametrize("init", ["default", "xavier", "xavier_attention", "xavier_fused"])
def test_initial_weights_follow_seed_and_scheme(init: str) -> None:
    first, again, other = (make_model("gpt", "kv_pos", seed, init=init) for seed in (0, 0, 1))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    differing = [
        key for (key, a), b in zip(first.named_parameters(), other.parameters(), strict=True) if not torch.equal(a, b)
    ]
    assert {"embed.weight", "stack.blocks.0.attention.projection", "head.weight"} <= set(differing)
    matrices = [
        p for key, p in first.named_parameters() if p.ndim == 2 and "position" not in key and "embed" not in key
    ]
    for a, b in itertools.combinations([m for m in matrices if m.shape == matrices[0].shape], 2):
        assert not torch.equal(a, b), "two layers start with equal weights"
    for module in first.modules():
        if isinstance(module, nn.LayerNorm):
            assert torch.equal(module.weight, torch.ones_like(module.weight)) and not module.bias.detach().any()
        if isinstance(module, Attention):
            rows, dim = module.output.weight.shape
            bound = dim**-0.5 if init == "default" else (6 / (rows + dim)) ** 0.5
            assert 0.9 * bound < float(module.output.weight.detach().abs().max()) <= bound * (1 + 1e-6)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_truncated_embedding_is_cut_at_two_standard_deviations(scaled: bool) -> None:
    cut, whole = (
        make_model("gpt", "kv", dim=256, embedding_scale=scaled, embedding_init=init).embed
        for init in ("truncated", "model")
    )
    assert float((cut.weight.detach() * cut.factor).abs().max()) <= 2 * (1 + 1e-6)
    assert float((whole.weight.detach() * whole.factor).abs().max()) > 2.5
    # The variance of a standard normal variable between -2 and 2: 1 - 2·2·φ(2) / (Φ(2) - Φ(-2)).
    assert float((cut.weight.detach() * cut.factor).var()) == pytest.approx(0.774, rel=0.1)


def test_tied_output_reads_the_embedding() -> None:
    model = make_model("gpt", "kv", tied_output=True)
    assert model.head is None
    (tokens,) = make_inputs("gpt")
    hidden = model.stack(model.embed(tokens))
    torch.testing.assert_close(model(tokens), hidden @ model.embed.weight.T + model.head_bias, **TIGHT)


def test_embeddings_are_scaled_where_asked() -> None:
    plain, scaled = (make_model("gpt", "kv", embedding_scale=scale) for scale in (False, True))
    (tokens,) = make_inputs("gpt")
    with torch.no_grad():
        scaled.embed.weight.copy_(plain.embed.weight / math.sqrt(plain.embed.weight.shape[1]))
    torch.testing.assert_close(scaled(tokens), plain(tokens), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", SHAPES)
def test_dropout_acts_in_training_only(kind: str) -> None:
    drops = {
        f"{part}_dropout": 0.5 for part in ("embedding", "attention", "attention_output", "mlp", "mlp_output", "head")
    }
    for part in drops:
        model = make_model(kind, "kv_pos", **{part: 0.5})
        inputs = make_inputs(kind)
        assert torch.equal(model(*inputs), model(*inputs))
        model.train()
        torch.manual_seed(0)
        first = model(*inputs)
        second = model(*inputs)
        torch.manual_seed(0)
        assert torch.equal(first, model(*inputs))
        headless = part == "head_dropout" and kind in ("gpt", "seq2seq")
        assert torch.equal(first, second) == headless, part
