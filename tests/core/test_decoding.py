"""Translating with a cache and without, by greedy and beam search, compared with exhaustive search."""

import itertools
import math

import pytest
import torch
from models import make_model, supported
from references import apply_map, make_attention, plain_attention, small_model
from torch import Tensor

from kvformer.data.tokens import BEGIN, END, PADDING
from kvformer.models.decoding import generate, translate
from kvformer.models.seq2seq import Seq2Seq
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS

SMALL = Shape(length=4, inputs=7, outputs=6, target_inputs=6)
LONG = Shape(length=14, inputs=9, outputs=9, target_inputs=9)
SHARED = [name for name in supported("seq2seq") if VARIANTS[name].attention.query_is_key]


def sources(shape: Shape, batch: int = 4) -> Tensor:
    """Sentences of different lengths, <bos> … <eos> <pad> …."""
    random = torch.Generator().manual_seed(5)
    rows = torch.randint(4, shape.inputs, (batch, shape.length), generator=random)
    rows[:, 0] = BEGIN
    for row, length in zip(rows, itertools.cycle([shape.length, 3, shape.length - 1]), strict=False):
        row[length - 1] = END
        row[length:] = PADDING
    return rows


def sharp(name: str, shape: Shape, seed: int = 0, **changes: object) -> Seq2Seq:
    """A model whose predictions differ clearly from token to token, and that has learned not to write <pad>."""
    model = make_model("seq2seq", name, seed=seed, shape=shape, **changes)
    assert isinstance(model, Seq2Seq)
    with torch.no_grad():
        model.head.weight *= 5
        model.head.bias[PADDING] = -100
    return model


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("name", supported("seq2seq"))
def test_the_cache_changes_no_translation(name: str, beam: int) -> None:
    model = sharp(name, LONG)
    source = sources(LONG)
    with_cache, without = (translate(model, source, beam, cached) for cached in (True, False))
    assert torch.equal(with_cache, without)
    assert (with_cache[:, 0] == BEGIN).all()
    for row in with_cache.tolist():
        after = row[row.index(END) + 1 :] if END in row else []
        assert set(after) <= {PADDING}


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("name", ["qkv", "kv", "kv_pos"])
def test_the_cache_changes_no_published_translation(name: str, beam: int) -> None:
    """There, cross-attention is another one at the step where target and source are equally long."""
    model = sharp(name, LONG, cross_query="published")
    model.head.bias.data[END] = -3  # longer translations, past the length of the sources
    source = sources(LONG)[:, :9]
    without = translate(model, source, beam, cached=False)
    assert without.shape[1] > 10
    assert torch.equal(translate(model, source, beam), without)
    assert model.lengths_matter == (name != "qkv")


@pytest.mark.parametrize("beam", [1, 3])
def test_a_translation_does_not_depend_on_its_batch(beam: int) -> None:
    model = sharp("kv_pos", LONG)
    source = sources(LONG)
    together = translate(model, source, beam)
    for row, sentence in zip(together, source, strict=True):
        (alone,) = translate(model, sentence[sentence != PADDING][None], beam)
        assert torch.equal(row[: len(alone)], alone) and (row[len(alone) :] == PADDING).all()


def test_greedy_takes_the_likeliest_token() -> None:
    model = sharp("kv", LONG)
    source = sources(LONG)
    (row,) = translate(model, source[:1])
    for place in range(1, len(row)):
        assert row[place] == model(source[:1], row[None, :place], source[:1] == PADDING)[0, -1].argmax()
        if row[place] == END:
            break


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_is_exhaustive_search(seed: int) -> None:
    """Three tokens of six symbols: the best of all translations by mean log-probability a token, <eos> included."""
    model = sharp("kv", SMALL, seed=seed)
    source = sources(SMALL, batch=2)
    (found, _) = translate(model, source, beam=36)
    symbols = [symbol for symbol in range(SMALL.outputs) if symbol != PADDING]
    best, best_score = [], -math.inf
    for length in (1, 2, 3):
        for tokens in itertools.product(symbols, repeat=length):
            if END in tokens[:-1] or (length < 3 and tokens[-1] != END):
                continue
            row = torch.tensor([[BEGIN, *tokens]])
            chances = torch.log_softmax(model(source[:1], row[:, :-1], source[:1] == PADDING), dim=-1)[0]
            score = sum(chances[i, token].item() for i, token in enumerate(tokens)) / length
            if score > best_score:
                best, best_score = [BEGIN, *tokens], score
    assert [symbol for symbol in found.tolist() if symbol != PADDING] == best


def test_a_beam_is_never_worse_than_greedy() -> None:
    """By mean log-probability a token, where the beam holds every sentence."""
    model = sharp("qkv", SMALL, seed=3)
    source = sources(SMALL)

    def mean_score(rows: Tensor) -> list[float]:
        chances = torch.log_softmax(model(source, rows[:, :-1], source == PADDING), dim=-1)
        real = rows[:, 1:] != PADDING
        picked = chances.gather(-1, rows[:, 1:, None])[..., 0]
        return ((picked * real).sum(1) / real.sum(1)).tolist()

    greedy, wide = mean_score(translate(model, source, 1)), mean_score(translate(model, source, 36))
    assert all(b >= a - 1e-9 for a, b in zip(greedy, wide, strict=True))


@pytest.mark.parametrize("name", SHARED)
def test_cross_attention_with_a_query_map_of_its_own(name: str) -> None:
    model = small_model(cross_query="own")
    attention = make_attention(VARIANTS[name].attention, model, 9, cross=True)
    assert "query" in attention.widths
    assert "query" not in make_attention(VARIANTS[name].attention, model, 9).widths, "self-attention does not change"
    random = torch.Generator().manual_seed(0)
    x, memory = (torch.randn(2, n, 16, dtype=torch.float64, generator=random) for n in (4, 9))
    torch.testing.assert_close(attention(x, memory)[0], plain_attention(attention, x, memory), rtol=1e-11, atol=1e-12)


def test_the_published_cross_attention_ignores_the_decoder_at_equal_lengths() -> None:
    """experiments.md: with equal lengths it uses K·Kᵀ of the memory, whatever the decoder's state is."""
    attention = make_attention(VARIANTS["kv"].attention, small_model(cross_query="published"), 9, cross=True)
    random = torch.Generator().manual_seed(0)
    x, other, memory = (torch.randn(2, 6, 16, dtype=torch.float64, generator=random) for _ in range(3))
    assert torch.equal(attention(x, memory)[0], attention(other, memory)[0])
    keys = apply_map(attention, "key", memory)
    values = apply_map(attention, "value", memory)
    mixed = [
        torch.softmax(attention.scale * k @ k.transpose(-1, -2), dim=-1) @ v
        for k, v in zip(keys.split(4, dim=-1), values.split(4, dim=-1), strict=True)
    ]
    expected = attention.output(torch.cat(mixed, dim=-1))
    torch.testing.assert_close(attention(x, memory)[0], expected, rtol=1e-11, atol=1e-12)
    shorter = attention(x[:, :5], memory)[0]
    torch.testing.assert_close(shorter, plain_attention(attention, x[:, :5], memory), rtol=1e-11, atol=1e-12)


def test_text_goes_on_beyond_the_context() -> None:
    """The window restarts from the later half of the context, whose tokens then have the first positions."""
    model = make_model("gpt", "kv_rel")
    prompt = torch.randint(11, (2, 3), generator=torch.Generator().manual_seed(0))
    text = generate(model, prompt, 16)
    assert torch.equal(text[:, 12], model(text[:, :12])[:, -1].argmax(-1))
    assert torch.equal(text[:, 13], model(text[:, 7:13])[:, -1].argmax(-1))
    assert torch.equal(text[:, 14], model(text[:, 7:14])[:, -1].argmax(-1))
