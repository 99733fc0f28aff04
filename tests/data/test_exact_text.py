"""Text is read back exactly as it was written: only a line feed ends a line."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kvformer.data.images import build_imagefolder
from kvformer.data.parallel import build_parallel
from kvformer.data.raw import RawFiles
from kvformer.data.text import build_text
from kvformer.errors import DataError
from kvformer.records.manifest import Manifest, ManifestWriter, load_manifest
from kvformer.tasks import translation
from kvformer.training.bleu import detokenised_bleu, token_bleu

Raw, Build = Callable[[Path], RawFiles], Callable[..., Manifest]
SEPARATORS = ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
"""Everything but the line feed that Python takes for the end of a line."""


@pytest.mark.parametrize("separator", SEPARATORS)
def test_lines_are_read_back_as_they_were_written(tmp_path: Path, separator: str) -> None:
    lines = [f"one{separator}two", "three", f"{separator}four", f"five{separator}"]
    writer = ManifestWriter(tmp_path)
    writer.save_lines("words", lines)
    writer.finish("sample", "Sample", "test", "none", {})
    assert load_manifest(tmp_path).lines("words") == lines


@pytest.mark.parametrize("separator", SEPARATORS)
def test_references_stay_with_their_sentences(raw: Raw, build: Build, tmp_path: Path, separator: str) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    sentences = [f"Dog {i} runs home{separator} to cat {i} now." for i in range(5)]
    for name in ("train", "val", "test"):
        for language in ("en", "de"):
            (folder / f"{name}.{language}").write_bytes("\n".join(sentences).encode())
    manifest = build(build_parallel, raw(folder))
    references = manifest.lines("test_de")
    assert references == sentences
    offsets = manifest.array("test_de_offsets")
    tokens, vocabulary = manifest.array("test_de_tokens"), manifest.lines("de_vocabulary")
    words = [[vocabulary[token] for token in tokens[low:high]] for low, high in pairwise(offsets)]
    assert detokenised_bleu(words, references, "de") == pytest.approx(100)
    assert token_bleu([["<bos>", *row, "<eos>"] for row in words], references, "de") == pytest.approx(100)


def test_windows_line_ends_are_line_ends(raw: Raw, build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("train", "val", "test"):
        for language in ("en", "de"):
            (folder / f"{name}.{language}").write_bytes(b"A dog runs.\r\nA cat runs.\r\n")
    assert build(build_parallel, raw(folder)).lines("test_de") == ["A dog runs.", "A cat runs."]


@pytest.mark.parametrize("separator", SEPARATORS)
def test_every_character_of_a_text_is_kept(raw: Raw, build: Build, tmp_path: Path, separator: str) -> None:
    (tmp_path / "diary.txt").write_bytes(f"a{separator}b\r\nc\n".encode())
    manifest = build(build_text, raw(tmp_path))
    vocabulary = manifest.facts["vocabulary"]
    assert "".join(vocabulary[token] for token in manifest.array("tokens")) == f"a{separator}b\nc\n"


def test_a_class_of_an_annotated_image_is_found_whatever_its_name(
    raw: Raw, build: Build, image_bytes: Callable[..., bytes], tmp_path: Path
) -> None:
    root = tmp_path / "tiny"
    for folder in ("train/n01/images", "val/images"):
        (root / folder).mkdir(parents=True)
        (root / folder / "a\x85b.png").write_bytes(image_bytes(1))
    (root / "val" / "val_annotations.txt").write_bytes("a\x85b.png\tn01\t0\t0\t9\t9\r\n".encode())
    assert build(build_imagefolder, raw(root)).facts["class_names"] == ["n01"]


@pytest.mark.parametrize("score", [detokenised_bleu, token_bleu])
@pytest.mark.parametrize(("translations", "references"), [(2, 1), (1, 2), (1, 0)])
def test_lists_of_unequal_length_are_never_scored(
    score: Callable[..., float], translations: int, references: int
) -> None:
    with pytest.raises(DataError, match=rf"BLEU: {translations} translations, but {references} references"):
        score([["A", "dog", "runs", "."]] * translations, ["A dog runs."] * references, "en")


def test_sentences_and_tokens_of_unequal_number_are_refused_before_training(tmp_path: Path) -> None:
    writer = ManifestWriter(tmp_path)
    writer.save_lines("test_de", ["Ein Hund rennt.", "Noch einer."])
    writer.save("test_de_offsets", np.array([0, 4]))
    writer.finish("parallel:x", "x", "test", "none", {})
    data = translation.TranslationData(source="en", target="de")
    with pytest.raises(DataError, match=r"test_de: 2 sentences, but tokens of 1"):
        translation._references(data, load_manifest(tmp_path), "test", None)
