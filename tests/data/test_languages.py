"""Tokens and scores fit the language: a perfect translation has BLEU 100, whether or not words have spaces."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kvformer.data.parallel import build_parallel
from kvformer.data.raw import RawFiles
from kvformer.data.tokens import MOSES, Tokens, detokenise, suitable_tokens, tokenise
from kvformer.errors import DataError
from kvformer.records.manifest import Manifest
from kvformer.tasks import translation
from kvformer.training.bleu import detokenised_bleu, token_bleu

Raw, Build = Callable[[Path], RawFiles], Callable[..., Manifest]
CHARACTERS = Tokens("characters", "char")
SENTENCES = {
    "en": ("A dog runs home.", MOSES),
    "ru": ("Собака бежит домой.", MOSES),
    "hi": ("कुत्ता घर की ओर दौड़ता है।", Tokens("spaces")),
    "ta": ("நாய் வீட்டிற்கு வேகமாக ஓடுகிறது.", Tokens("spaces")),
    "decomposed": ("Die Ma\u0308nner gehen u\u0308ber die Bru\u0308cke.", Tokens("spaces")),
    "ar": ("الكلب يركض إلى المنزل.", MOSES),
    "ko": ("개가 집으로 뛰어간다.", Tokens("Moses", "char")),
    "zh": ("我今天在家里学习 PyTorch，也喜欢猫和狗。", Tokens("characters", "zh")),
    "ja": ("私は猫が好きです。", CHARACTERS),
    "th": ("ผมรักแมวที่บ้านของฉัน", CHARACTERS),
    "lo": ("ຂ້ອຍຮັກແມວຢູ່ເຮືອນ", CHARACTERS),
    "km": ("ខ្ញុំស្រឡាញ់ឆ្មានៅផ្ទះ", CHARACTERS),
    "my": ("ကျွန်တော်ကြောင်ကိုချစ်တယ်", CHARACTERS),
    "bo": ("ང་ཞི་མི་ལ་དགའ།", CHARACTERS),
}


@pytest.mark.parametrize("language", SENTENCES)
def test_tokens_fit_the_script(language: str) -> None:
    sentence, tokens = SENTENCES[language]
    assert suitable_tokens([sentence]) == tokens


@pytest.mark.parametrize("language", SENTENCES)
def test_a_perfect_translation_scores_100(language: str) -> None:
    sentence, tokens = SENTENCES[language]
    (words,) = tokenise([sentence], language, tokens.tokenizer)
    assert len(words) >= 4
    assert detokenised_bleu([words], [sentence], language, tokens) == pytest.approx(100)
    assert token_bleu([["<bos>", *words, "<eos>"]], [sentence], language, tokens) == pytest.approx(100)


def test_characters_keep_their_marks_and_are_joined_again() -> None:
    (tokens,) = tokenise(["ที่นี่ is here。"], "th", "characters")
    assert tokens == ["ที่", "นี่", "is", "here", "。"]
    assert detokenise(tokens, "th", "characters") == "ที่นี่is here。"


def corpus(folder: Path, target: str, sentences: list[str]) -> Path:
    folder.mkdir()
    for name in ("train", "val", "test"):
        (folder / f"{name}.en").write_text("A dog runs home.\n" * len(sentences), encoding="utf-8")
        (folder / f"{name}.{target}").write_text("\n".join(sentences), encoding="utf-8")
    return folder


def test_a_set_records_how_its_languages_are_split_and_scored(raw: Raw, build: Build, tmp_path: Path) -> None:
    manifest = build(build_parallel, raw(corpus(tmp_path / "news", "cn", ["我喜欢猫。", "你喜欢狗。"])))
    assert manifest.facts["tokenizer"] == {
        "cn": {"tokenizer": "characters", "scoring": "zh"},
        "en": {"tokenizer": "Moses", "scoring": "13a"},
    }
    assert "喜" in manifest.lines("cn_vocabulary")


def test_sets_with_spaces_are_what_they_were(raw: Raw, build: Build, tmp_path: Path) -> None:
    manifest = build(build_parallel, raw(corpus(tmp_path / "news", "de", ["Ein Hund rennt nach Hause."])))
    assert manifest.facts["tokenizer"] == "Moses"


@pytest.mark.parametrize(("bleu", "refused"), [("sacrebleu", True), ("tokens_with_ends", False)])
def test_sentences_too_short_for_any_score_are_refused(
    raw: Raw, build: Build, tmp_path: Path, bleu: str, refused: bool
) -> None:
    manifest = build(build_parallel, raw(corpus(tmp_path / "news", "de", ["Ja bitte.", "Nein."])))
    data = translation.TranslationData(dataset="parallel:news", source="en", target="de", bleu=bleu)
    if refused:
        with pytest.raises(DataError, match=r"parallel:news: no sentence of test.de has 4 tokens, the longest has 3"):
            translation._references(data, manifest, "test", None)
    else:
        assert len(translation._references(data, manifest, "test", None)) == 2
    assert np.diff(manifest.array("test_de_offsets")).max() == 3
