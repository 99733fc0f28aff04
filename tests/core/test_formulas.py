"""Closed formulas against counted models: parameters, multiply-accumulates; and the published numbers."""

import itertools

import pytest
import torch
from models import PAIRS, SHAPES, make_inputs, make_model, model_config
from references import small_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kvformer.config.loading import single_run
from kvformer.config.run import RunConfig
from kvformer.models.attention import FUSED_FROM, Attention
from kvformer.models.build import MODELS, build_model
from kvformer.spec.formulas import (
    attention_macs,
    attention_parameters,
    macs,
    mlp_hidden,
    parameters,
    total_attention_parameters,
)
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def built(task: str, variant: str, *overrides: str) -> tuple[torch.nn.Module, RunConfig, Shape]:
    run, _ = single_run(task, variant, 0, overrides=overrides)
    shape = run.definition.shape(run.data, None)
    return build_model(run, shape), run, shape


OPTIONS = [
    {},
    {"projection_bias": False, "output_bias": False, "final_norm": False},
    {"position_maps": "head", "position_channels": 7, "positions": "learned", "tied_output": True},
    {"mlp_ratio": 1.3, "layers": 4, "dim": 24},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "default")
@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_parameters_are_as_the_formula_says(kind: str, name: str, options: dict[str, object]) -> None:
    config = model_config(kind, **options)
    model = MODELS[kind](config, VARIANTS[name], SHAPES[kind])
    assert count(model) == parameters(kind, VARIANTS[name], config, SHAPES[kind])
    attention = sum(count(module) for module in model.modules() if isinstance(module, Attention))
    assert attention == total_attention_parameters(kind, VARIANTS[name], config, SHAPES[kind])


@pytest.mark.parametrize(
    ("task", "overrides", "published"),
    [
        ("reverse", ("model.dim=32", "model.layers=1", "model.heads=1"), (10_346, 9_290, 9_301)),
        ("copy", (), (72_586, 64_266, 64_288)),
        ("sort", ("model.dim=256", "model.layers=4", "model.heads=4"), (2_180_106, 1_916_938, 1_916_982)),
        ("mnist", ("data.patch=4",), (1_665_802, 1_403_658, 1_403_862)),
        ("cifar100", (), (453_220, 387_684, 387_888)),
        ("characters", (), (2_703_425, 2_482_241, 2_482_619)),
        ("numbers", (), (200_990, 184_606, 184_650)),
    ],
)
def test_published_parameter_counts(task: str, overrides: tuple[str, ...], published: tuple[int, int, int]) -> None:
    counts = tuple(count(built(task, variant, *overrides)[0]) for variant in ("qkv", "kv", "kv_pos"))
    assert counts == published


def test_mnist_has_one_count_for_both_patches() -> None:
    """experiments.md 3.6: "patch 4 or 7" give the same number, 16 x 256 + 50 x 256 = 49 x 256 + 17 x 256."""
    assert count(built("mnist", "kv", "data.patch=4")[0]) == count(built("mnist", "kv", "data.patch=7")[0])


@pytest.mark.parametrize("length", [13, FUSED_FROM + 4], ids=["explicit", "fused"])
@pytest.mark.parametrize("maps", ["layer", "head"])
@pytest.mark.parametrize("name", VARIANTS)
def test_macs_are_those_of_pytorchs_counter(name: str, maps: str, length: int) -> None:
    """The counter sees matrix products, two operations each; it cannot look into the fused kernel."""
    spec = VARIANTS[name].attention
    positions = "rope" if spec.needs_rope else "sinusoidal"
    model = small_model(dim=32, heads=8, position_maps=maps, position_channels=20, positions=positions)
    owners = [True] if spec.layers_per_kv == 1 else [True, False]
    for owns in owners:
        attention = Attention(spec, model, length, owns_keys_values=owns).eval()
        for parameter in attention.parameters():
            torch.nn.init.normal_(parameter)
        x = torch.randn(1, length, 32)
        shared = None if owns else Attention(spec, model, length)(x)[1]
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            attention(x, shared=shared)
        expected = attention_macs(spec, model, length, owns)
        if length >= FUSED_FROM and spec.position in ("pos2d", "key_bias"):
            # The key bias rides in one more feature of queries, keys and values: 2·n² more a head.
            expected += 2 * 8 * length**2
        if length >= FUSED_FROM and spec.latents:
            expected += 8 * length**2 * (model.head_dim // 2)  # values are filled up to the width of keys
        assert counter.get_total_flops() == 2 * expected


@pytest.mark.parametrize(
    ("length", "dim", "heads", "channels", "maps", "kv", "reduced"),
    [
        (64, 192, 3, 20, "head", 0.786, 0.787),
        (50, 256, 4, 50, "layer", 0.772, 0.773),
        (128, 64, 4, 10, "layer", 0.875, 0.891),
        (128, 64, 8, 10, "layer", 0.875, 0.906),
    ],
)
def test_published_mac_ratios(
    length: int, dim: int, heads: int, channels: int, maps: str, kv: float, reduced: float
) -> None:
    """The published reduced ratios apply the gain to H·n² logits; here it is part of the queries' scale, free."""
    model = ModelConfig(dim=dim, heads=heads, layers=1, position_channels=channels, position_maps=maps)
    counts = {name: attention_macs(VARIANTS[name].attention, model, length) for name in ("qkv", "kv", "kv_pos")}
    assert counts["kv"] / counts["qkv"] == pytest.approx(kv, abs=5e-4)
    assert counts["kv"] < counts["kv_pos"] <= reduced * counts["qkv"] + 1
    naive_extra = heads * length**2 * channels
    assert counts["kv_pos"] - counts["kv"] < naive_extra / 100


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("encoder", "key"), ("vit", "key"), ("gpt", "key"),
        ("seq2seq", "key"), ("seq2seq", "own"), ("seq2seq", "published"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dim", [32, 96])
def test_kv_wide_has_the_parameters_of_qkv(kind: str, query: str, dim: int) -> None:
    """Up to the rounding of the hidden width: at most half a unit of 2d + 1 parameters a block. Cross-attention with a
    query map of its own saves nothing, and nothing is re-spent for it."""
    config = model_config(kind, dim=dim, cross_query=query)
    totals = {name: parameters(kind, VARIANTS[name], config, SHAPES[kind]) for name in ("qkv", "kv", "kv_wide")}
    blocks = config.layers * (2 if kind == "seq2seq" else 1)
    assert abs(totals["kv_wide"] - totals["qkv"]) <= blocks * (2 * dim + 1) / 2
    assert totals["kv"] < totals["qkv"]
    model = make_model(kind, "kv_wide", dim=dim, cross_query=query)
    assert count(model) == totals["kv_wide"]
    assert model.get_submodule(
        "stack.blocks.0.mlp.0" if kind != "seq2seq" else "encoder.blocks.0.mlp.0"
    ).out_features == mlp_hidden(config, VARIANTS["kv_wide"], 6)


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_macs_of_whole_models(kind: str, name: str) -> None:
    model = make_model(kind, name, tied_output=kind == "gpt")
    shape = SHAPES[kind]
    if kind == "seq2seq":
        tokens = torch.zeros(1, shape.length, dtype=torch.long)
        inputs: tuple[torch.Tensor, ...] = (tokens, tokens)
    else:
        inputs = make_inputs(kind, batch=1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    assert counter.get_total_flops() == 2 * macs(kind, VARIANTS[name], model_config(kind), shape)


def test_savings_by_hand() -> None:
    """d² + d saved by each shared map; m + 1 added by kv_pos; one h x h matrix a head by kv_pair."""
    model = small_model(dim=32, heads=4)
    sizes = {name: attention_parameters(v.attention, model, 10) for name, v in VARIANTS.items() if name != "gqa4"}
    square = 32 * 32 + 32
    assert sizes["qkv"] == 4 * square
    assert sizes["kv"] == sizes["q_kv"] == sizes["iq"] == sizes["kv_norm"] == 3 * square
    assert sizes["k"] == 2 * square
    assert sizes["kv_pos"] - sizes["kv"] == 11
    assert sizes["kv_gain"] - sizes["kv"] == 10
    assert sizes["kv_bias"] - sizes["kv"] == 4
    assert sizes["kv_rel"] - sizes["kv"] == 19
    assert sizes["kv_pair"] - sizes["kv"] == 4 * 8 * 8
    assert sizes["mqa"] == 2 * square + 2 * (8 * 32 + 8)
    assert sizes["q_mqa"] == 2 * square + (8 * 32 + 8)


def test_saved_parameters_are_a_percentage_of_the_published_models() -> None:
    for (task, overrides), saving in {
        ("copy", ()): 0.115, ("mnist", ()): 0.157, ("characters", ()): 0.082, ("numbers", ()): 0.082,
    }.items():  # fmt: skip
        qkv, kv = (count(built(task, name, *overrides)[0]) for name in ("qkv", "kv"))
        assert 1 - kv / qkv == pytest.approx(saving, abs=6e-4)


def test_formula_refuses_an_unknown_architecture() -> None:
    with pytest.raises(ValueError, match="no architecture 'mixer'"):
        parameters("mixer", VARIANTS["kv"], small_model(), SHAPES["gpt"])


def test_every_task_builds_every_variant_that_it_allows() -> None:
    """The published settings of all tasks, counted and by formula."""
    from kvformer.tasks import TASKS

    for task, name in itertools.product(TASKS, ("kv_pos", "gqa2", "kv_rel")):
        overrides = ("model.layers=1", "model.dim=16", "model.heads=4")
        model, run, shape = built(task, name, *overrides)
        assert count(model) == parameters(run.definition.architecture, VARIANTS[name], run.model, shape)
