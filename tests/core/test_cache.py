"""Decoding with a running cache: the same logits as the full forward pass, and as many bytes as the formula says."""

import pytest
import torch
from models import PAIRS, SHAPES, make_inputs, make_model, model_config, supported

from kvformer.models.attention import DecoderCache
from kvformer.spec.formulas import cache_elements
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS

TIGHT = {"rtol": 1e-10, "atol": 1e-11}
LONG = Shape(length=100, inputs=11, outputs=11, target_inputs=11)


@pytest.mark.parametrize("shape", [SHAPES["gpt"], LONG], ids=["explicit", "fused"])
@pytest.mark.parametrize("name", supported("gpt"))
def test_gpt_token_by_token(name: str, shape: Shape) -> None:
    model = make_model("gpt", name, shape=shape)
    (tokens,) = make_inputs("gpt", shape=shape)
    cache, logits = DecoderCache(), []
    sizes = [5, *[1] * (shape.length - 6), 1] if shape is SHAPES["gpt"] else [90, *[1] * 10]
    for piece in tokens.split(sizes, dim=1):
        logits.append(model(piece, cache))
    torch.testing.assert_close(torch.cat(logits, dim=1), model(tokens), **TIGHT)
    elements = cache_elements(VARIANTS[name], model_config("gpt"))
    assert cache.bytes == elements * 8 * tokens.numel()
    assert cache.length == shape.length


@pytest.mark.parametrize("name", supported("seq2seq"))
def test_seq2seq_token_by_token(name: str) -> None:
    """With a padded source, and a target as long as the source on the way: no length is special."""
    model = make_model("seq2seq", name)
    source, target = make_inputs("seq2seq", batch=3)
    padding = torch.arange(source.shape[1]) >= torch.tensor([9, 6, 1])[:, None]
    memory = model.encode(source, padding)
    whole = model.decode(target, memory, padding)
    torch.testing.assert_close(model(source, target, padding), model.head(whole), **TIGHT)
    cache = DecoderCache()
    pieces = [model.decode(target[:, i : i + 1], memory, padding, cache=cache) for i in range(target.shape[1])]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, **TIGHT)
    elements = cache_elements(VARIANTS[name], model_config("seq2seq"))
    assert cache.bytes == elements * 8 * target.numel(), "cross-attention does not grow and is not counted"


@pytest.mark.parametrize("name", supported("gpt"))
def test_the_cache_formula_of_the_literature(name: str) -> None:
    """Numbers a token in 6 layers of width 256 with 8 heads: 2d a layer for qkv, less by sharing (related.md)."""
    model = model_config("gpt", dim=256, heads=8, layers=6)
    full = 2 * 256 * 6
    shares = {
        "q_kv": 1 / 2, "k": 1 / 2, "k_pos": 1 / 2, "uniform": 1 / 2, "pos_only": 1 / 2,
        "kv_rot_mqa": 1 / 8, "mqa": 1 / 8, "gqa2": 1 / 4, "gqa4": 1 / 2,
        "q_mqa": 1 / 16, "q_gqa2": 1 / 8, "q_gqa4": 1 / 4, "cla2": 1 / 2, "mqa_cla2": 1 / 16, "mlkv": 1 / 24,
    }  # fmt: skip
    assert cache_elements(VARIANTS[name], model) == full * shares.get(name, 1)


def test_uneven_groups_of_layers() -> None:
    """Five layers in pairs: three owners; in triples: two."""
    for name, owners in (("cla2", 3), ("mlkv", 2)):
        model = make_model("gpt", name, layers=5)
        assert sum(block.attention.owns_keys_values for block in model.stack.blocks) == owners
        cache = DecoderCache()
        (tokens,) = make_inputs("gpt")
        model(tokens, cache)
        assert cache.bytes == cache_elements(VARIANTS[name], model_config("gpt", layers=5)) * 8 * tokens.numel()


def test_every_pair_is_covered() -> None:
    at_learned_positions = {name for name, variant in VARIANTS.items() if not variant.attention.needs_rope}
    assert {name for kind, name in PAIRS if kind == "gpt"} == at_learned_positions
    assert {name for kind, name in PAIRS if kind == "seq2seq"} == at_learned_positions - {"cla2", "mqa_cla2", "mlkv"}
