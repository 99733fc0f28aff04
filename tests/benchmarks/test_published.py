"""The benchmark compares one function with itself: with equal weights both formulations give equal outputs."""

from typing import Any

import pytest
import torch
from benchmarks.cases import CASES, VARIANTS, make_run
from benchmarks.published import Attention, Heads, build, translation_loss
from torch import Tensor, nn

from kvformer.config.loading import load_study
from kvformer.config.run import RunConfig
from kvformer.data.tokens import PADDING
from kvformer.models.build import build_model
from kvformer.models.fast.divergence import smoothed_divergence
from kvformer.spec.shapes import Shape
from kvformer.training.cost import random_inputs

SMALL: dict[str, dict[str, Any]] = {
    "reverse": {"data": {"length": 12}, "model": {"dim": 16, "heads": 4}},
    "mnist": {"data": {"patch": 7}, "model": {"dim": 16, "layers": 2}},
    "cifar10": {"model": {"dim": 16, "layers": 2}},
    "characters": {"data": {"context": 12}, "model": {"dim": 24, "layers": 2}},
    "numbers": {"model": {"dim": 16, "layers": 2}},
    "translation_en_de": {"model": {"dim": 16, "layers": 2}},
}


def small_run(task: str, variant: str) -> RunConfig:
    section = {**SMALL[task], "variants": [variant], "seeds": [0]}
    (run,) = load_study({"protocol": "published", "tasks": {task: section}}).runs()
    return run


def small_shape(run: RunConfig) -> Shape:
    shape = run.definition.shape(run.data, None)
    return Shape(12, 20, 30, target_inputs=30) if run.definition.architecture == "seq2seq" else shape


def copy_attention(ours: nn.Module, theirs: nn.Module) -> None:
    """Rows of the fused matrix are the query map, the key map, the value map, each head after head."""
    parts = {}
    start = 0
    for role, width in ours.widths.items():
        bias = None if ours.projection_bias is None else ours.projection_bias[start : start + width]
        parts[role] = ours.projection[start : start + width], bias
        start += width
    if isinstance(theirs, Heads):
        for index, head in enumerate(theirs.heads):
            rows = slice(index * ours.head_dim, (index + 1) * ours.head_dim)
            for role, (weight, _) in parts.items():
                getattr(head, role).weight.copy_(weight[rows])
    elif theirs.fused:  # the published chunks are interleaved: of each head its query, key and value
        by_head = [weight.view(ours.heads, ours.head_dim, -1) for weight, _ in parts.values()]
        theirs.projection.weight.copy_(torch.cat(by_head, dim=1).flatten(0, 1))
        if ours.projection_bias is not None:
            by_head = [bias.view(ours.heads, -1) for _, bias in parts.values()]
            theirs.projection.bias.copy_(torch.cat(by_head, dim=1).flatten())
    else:
        for role, (weight, bias) in parts.items():
            getattr(theirs, role).weight.copy_(weight)
            if bias is not None:
                getattr(theirs, role).bias.copy_(bias)
    if hasattr(ours, "position"):
        maps = [head.position.map for head in theirs.heads] if isinstance(theirs, Heads) else [theirs.position.map]
        for index, position in enumerate(maps):
            position.weight.copy_(ours.position.weight[index : index + 1])
            position.bias.copy_(ours.position.bias[index : index + 1])
    theirs.output.load_state_dict(ours.output.state_dict())


def copy_blocks(ours: nn.Module, theirs: nn.ModuleList) -> None:
    for own, block in zip(ours.blocks, theirs, strict=True):
        copy_attention(own.attention, block.attention)
        norms = [own.attention_norm, own.mlp_norm]
        if block.cross is not None:
            copy_attention(own.cross_attention, block.cross)
            norms.insert(1, own.cross_norm)
        block.mlp.load_state_dict(own.mlp.state_dict())
        for norm, copied in zip(norms, block.norms, strict=True):
            copied.load_state_dict(norm.state_dict())


@torch.no_grad()
def copy_weights(kind: str, ours: nn.Module, theirs: nn.Module) -> None:
    if kind == "seq2seq":
        for own, block in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
            copy_blocks(own, block)
        for own, norm in zip((ours.encoder, ours.decoder), theirs.norms, strict=True):
            norm.load_state_dict(own.norm.state_dict())
        theirs.source_embed.weight.copy_(ours.source_embed.weight)
        theirs.target_embed.weight.copy_(ours.target_embed.weight)
        theirs.head.load_state_dict(ours.head.state_dict())
        return
    copy_blocks(ours.stack, theirs.blocks)
    if kind == "gpt":
        theirs.embed.weight.copy_(ours.embed.weight)
        theirs.norm.load_state_dict(ours.stack.norm.state_dict())
        if ours.head is None:
            theirs.head.bias.copy_(ours.head_bias)
        else:
            theirs.head.load_state_dict(ours.head.state_dict())
            theirs.positions.weight.copy_(ours.embed.positions.table)
        return
    theirs.head.load_state_dict({name.replace("probability", "p"): t for name, t in ours.head.state_dict().items()})
    if kind == "vit":
        theirs.embed.load_state_dict(ours.embed.state_dict())
        theirs.class_token.copy_(ours.class_token)
        theirs.positions.copy_(ours.positions.table)
    else:
        theirs.embed.weight.copy_(ours.embed.weight.T)
        theirs.embed.bias.copy_(ours.embed.bias)


def both(task: str, variant: str) -> tuple[nn.Module, nn.Module, tuple[Tensor, ...]]:
    """The two models with the same weights, in double precision, and inputs."""
    run = small_run(task, variant)
    shape = small_shape(run)
    torch.manual_seed(0)
    ours, theirs = build_model(run, shape).double().eval(), build(run, shape).double().eval()
    copy_weights(run.definition.architecture, ours, theirs)
    inputs = random_inputs(run, shape, 3, torch.device("cpu"))
    return ours, theirs, tuple(x.double() if x.is_floating_point() else x for x in inputs)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", [task for task in SMALL if task != "translation_en_de"])
def test_both_formulations_are_one_function(task: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, inputs = both(task, variant)
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # one-hot vectors as precise as the rest
    torch.testing.assert_close(theirs(*inputs), ours(*inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [7, 12])
def test_both_translate_alike(variant: str, length: int) -> None:
    """With padding, and (12) with a target as long as the source, where the published kv ignores the decoder."""
    ours, theirs, _ = both("translation_en_de", variant)
    random = torch.Generator().manual_seed(1)
    source, target = (torch.randint(4, 20, (3, n), generator=random) for n in (12, length + 1))
    source[1, 6:], target[1, 5:] = PADDING, PADDING
    labels = target[:, 1:]
    real = labels != PADDING
    log_q = theirs(source, target[:, :-1])
    logits = ours(source, target[:, :-1], source == PADDING, real)
    torch.testing.assert_close(log_q[real], torch.log_softmax(logits, dim=-1), rtol=1e-9, atol=1e-9)
    published = translation_loss(log_q, labels, 0.1)
    expected = smoothed_divergence(logits, labels[real], 0.1).double() / labels.numel()
    torch.testing.assert_close(published, expected, rtol=1e-6, atol=1e-9)


def test_no_part_of_the_published_model_is_left_out() -> None:
    """Dead maps included: a position map in kv, a query map in translation, as many parameters as published."""
    names = {name for name, _ in build(small_run("reverse", "kv"), Shape(12, 10, 10)).named_parameters()}
    assert any("position.map" in name for name in names)
    model = build(small_run("translation_en_de", "kv"), Shape(12, 20, 30, target_inputs=30))
    attention = model.encoder[0].attention
    assert isinstance(attention, Attention) and attention.query.weight.numel() == 16**2
    (demo,) = load_study(
        {
            "protocol": "published",
            "tasks": {
                "reverse": {
                    "data": {"length": 16},
                    "model": {"dim": 32, "layers": 1, "heads": 1},
                    "variants": ["kv_pos"],
                    "seeds": [0],
                }
            },
        }
    ).runs()
    assert sum(p.numel() for p in build(demo, Shape(16, 10, 10)).parameters()) == 9301


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_a_run(case: str) -> None:
    assert {make_run(case, variant).variant for variant in VARIANTS} == set(VARIANTS)
