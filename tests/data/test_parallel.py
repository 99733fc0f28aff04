"""Parallel text: alignment, vocabulary, ragged arrays, extraction of pairs, and the errors of malformed files."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kvformer.data.parallel import (
    MULTI30K,
    auf_deutsch_pairs,
    build_pairs,
    build_parallel,
    ding_pairs,
)
from kvformer.data.raw import RawFiles
from kvformer.data.tokens import SPECIALS, detokenise, tokenise
from kvformer.errors import DataError
from kvformer.records.manifest import Manifest

Raw, Build = Callable[[Path], RawFiles], Callable[..., Manifest]
NAMES = {"train": "train", "validation": "val", "test": "test"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three train pairs, one validation pair, one test pair."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    texts = {
        "train.en": "A dog runs.\nA dog doesn't see the t-shirt.\nTwo dogs.\n",
        "train.de": "Ein Hund rennt.\nEin Hund sieht das T-Shirt nicht.\nZwei Hunde.\n",
        "val.en": "A dog.\n", "val.de": "Ein Hund.\n",
        "test.en": "A zebra runs.", "test.de": "Ein Zebra rennt.",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def sentence(manifest: Manifest, split: str, language: str, index: int) -> list[str]:
    vocabulary = manifest.lines(f"{language}_vocabulary")
    offsets = manifest.array(f"{split}_{language}_offsets")
    return [vocabulary[i] for i in manifest.array(f"{split}_{language}_tokens")[offsets[index] : offsets[index + 1]]]


def test_sentences_survive_numbering(raw: Raw, build: Build, corpus: Path) -> None:
    manifest = build(build_parallel, raw(corpus), names=NAMES)
    assert sentence(manifest, "train", "en", 1) == ["A", "dog", "doesn", "'t", "see", "the", "t-shirt", "."]
    assert sentence(manifest, "train", "de", 2) == ["Zwei", "Hunde", "."]
    assert sentence(manifest, "test", "en", 0) == ["A", "<unk>", "runs", "."]
    assert manifest.lines("test_de") == ["Ein Zebra rennt."]
    assert manifest.facts["pairs"] == {"train": 3, "validation": 1, "test": 1}
    assert manifest.facts["languages"] == ["de", "en"]
    assert manifest.array("train_en_tokens").dtype == np.int32
    assert manifest.array("train_en_offsets").dtype == np.int64


def test_the_vocabulary_is_sorted_by_count_then_alphabet(raw: Raw, build: Build, corpus: Path) -> None:
    manifest = build(build_parallel, raw(corpus), names=NAMES)
    vocabulary = manifest.lines("en_vocabulary")
    assert vocabulary == [
        *SPECIALS, ".", "A", "dog", "'t", "Two", "doesn", "dogs", "runs", "see", "t-shirt", "the",
    ]  # fmt: skip
    assert manifest.facts["vocabulary_sizes"]["en"] == len(vocabulary)


def test_gzipped_files_and_other_languages(raw: Raw, build: Build, corpus: Path) -> None:
    for path in sorted(corpus.iterdir()):
        name = path.name.replace(".de", ".fr")
        (corpus / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert build(build_parallel, raw(corpus), names=NAMES).facts["languages"] == ["en", "fr"]


def test_unequal_numbers_of_lines_are_reported(raw: Raw, build: Build, corpus: Path) -> None:
    (corpus / "val.de").write_text("Ein Hund.\nEin Hund.\n")
    with pytest.raises(DataError, match=r"corpus: unequal numbers of lines: val.de 2 and val.en 1"):
        build(build_parallel, raw(corpus), names=NAMES)


def test_an_empty_file_is_reported(raw: Raw, build: Build, corpus: Path) -> None:
    (corpus / "test.en").write_text("")
    with pytest.raises(DataError, match=r"corpus/test.en: empty file"):
        build(build_parallel, raw(corpus), names=NAMES)


def test_an_empty_line_is_reported(raw: Raw, build: Build, corpus: Path) -> None:
    (corpus / "train.en").write_text("A dog runs.\n \nTwo dogs.\n")
    with pytest.raises(DataError, match=r"corpus/train.en: line 2 is empty"):
        build(build_parallel, raw(corpus), names=NAMES)


def test_a_missing_file_is_named(raw: Raw, build: Build, corpus: Path) -> None:
    (corpus / "test.de").unlink()
    with pytest.raises(DataError, match=r"corpus: no file test.de in it"):
        build(build_parallel, raw(corpus), names=NAMES)


def test_one_language_is_not_enough(raw: Raw, build: Build, corpus: Path) -> None:
    (corpus / "train.de").unlink()
    with pytest.raises(DataError, match=r"needs train.<language> in two languages, found train.en"):
        build(build_parallel, raw(corpus), names=NAMES)


def test_text_that_is_not_utf8_is_reported(raw: Raw, build: Build, corpus: Path) -> None:
    (corpus / "train.de").write_bytes("Männer\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"corpus/train.de: not UTF-8"):
        build(build_parallel, raw(corpus), names=NAMES)


def test_other_text_is_not_multi30k(raw: Raw, build: Build, corpus: Path) -> None:
    names = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
    with pytest.raises(DataError, match=r"corpus/train.de: sha256 .* another version"):
        build(build_parallel, raw(corpus), names=names, digests=MULTI30K)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Two men aren't at the dog's house, are they?", "en"),
        ('A man says "hello" (quietly) at 5 p.m.', "en"),
        ("Ein Mann mit Hut, der z.B. liest, geht über die Straße.", "de"),
    ],
)
def test_detokenising_inverts_tokenising(text: str, language: str) -> None:
    (tokens,) = tokenise([text], language)
    assert len(tokens) > len(text.split())
    assert detokenise(tokens, language) == text


def pairs(count: int) -> list[tuple[str, str]]:
    return [(f"Satz {i}.", f"Sentence {i}.") for i in range(count)]


def test_pairs_are_split_the_same_way_whatever_their_order(raw: Raw, build: Build, tmp_path: Path) -> None:
    def split(order: list[tuple[str, str]]) -> Manifest:
        if (tmp_path / "built").exists():
            shutil.rmtree(tmp_path / "built")
        return build(build_pairs, raw(tmp_path), extract=lambda _: order, digest="", held_out=5)

    first = split(pairs(40)).sha256
    second = split(pairs(40)[::-1])
    assert second.sha256 == first
    assert second.facts["pairs"] == {"train": 30, "validation": 5, "test": 5}
    assert [line.replace("Satz", "Sentence") for line in second.lines("test_de")] == second.lines("test_en")


def test_no_sentence_is_in_two_pairs(raw: Raw, build: Build, tmp_path: Path) -> None:
    doubled = [*pairs(40), ("Satz 3.", "Another one."), ("Anders.", "Sentence 5."), *pairs(20)]
    manifest = build(build_pairs, raw(tmp_path), extract=lambda _: doubled, digest="", held_out=5)
    for language in ("de", "en"):
        lines = [line for split in NAMES for line in manifest.lines(f"{split}_{language}")]
        assert len(set(lines)) == len(lines) >= 39


def test_changed_pairs_are_refused(raw: Raw, build: Build, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sha256 [0-9a-f]{64} instead of 0000: damaged, or another version"):
        build(build_pairs, raw(tmp_path), extract=lambda _: pairs(40), digest="0000", held_out=5)


DING = """# Version :: devel 2023-01-30
Aal {m} | Aale {pl} | Der Aal ist (sehr) glatt. [zool.] :: eel | eels | The eel is slippery.; The eel is smooth.
Fort!; Hinfort! | Sag ihm, dass er gehen soll! :: Begone! | Tell him to begone!
Haus {n} | Er geht nach Hause/heim. :: house | He is going home.
Tag {m} | Es war einmal … :: day | Once upon a time there was …
eins | zwei | Drei sind einer zu viel. :: one | Three is a crowd.
"""


def test_ding_yields_whole_sentences(raw: Raw, tmp_path: Path) -> None:
    (tmp_path / "de-en").write_text(DING, encoding="utf-8")
    assert list(ding_pairs(raw(tmp_path))) == [
        ("Der Aal ist glatt.", "The eel is slippery."),
        ("Sag ihm, dass er gehen soll!", "Tell him to begone!"),
    ]


def test_auf_deutsch_yields_every_pair_of_its_lessons(raw: Raw, tmp_path: Path) -> None:
    content = tmp_path / "auf_deutsch" / "content"
    (content / "packs").mkdir(parents=True)
    (content / "curriculum.json").write_text("{}")
    lesson = {
        "phrases": [{"de": "Hallo  du!", "en": "Hello you!", "examples": [{"de": "Ja.", "en": "Yes."}]}, {"de": "x"}]
    }
    (content / "packs" / "a.json").write_text(json.dumps(lesson))
    assert list(auf_deutsch_pairs(raw(tmp_path))) == [("Hallo du!", "Hello you!"), ("Ja.", "Yes.")]
    (content / "packs" / "b.json").write_text("{")
    with pytest.raises(DataError, match=r"packs/b.json: not valid JSON"):
        list(auf_deutsch_pairs(raw(tmp_path)))
