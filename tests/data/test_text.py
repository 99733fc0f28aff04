"""Token streams: human numbers by rule, Shakespeare by character."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kvformer.data.raw import RawFiles
from kvformer.data.text import build_human_numbers, build_shakespeare, build_text, number_in_words, play_text
from kvformer.errors import DataError
from kvformer.records.manifest import Manifest

Raw, Build = Callable[[Path], RawFiles], Callable[..., Manifest]

PLAY = """# A Play

## ACT I

### SCENE I. Rome. A street.

_Enter a company of mutinous Citizens, with staves, clubs, and other
weapons_

**First Citizen**\x20\x20
Before we proceed any further, hear me speak.\x20\x20
'Tis \\-- so.

_Shouts within_

What shouts are these? _Aside_ Hm.

**All**\x20\x20
_\\[Within]_\x20\x20
Speak, speak.

**MUTE**

_Burthen _\\[dispersedly, within_

**ARIEL**\x20\x20
Bow-wow

**AUDLEY**\x20\x20
*[Coming forward.]*
My lords. *Sound a horn.*

**PAGE**\x20\x20
[Within]_
Who's there?
"""


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "one"), (10, "ten"), (19, "nineteen"), (20, "twenty"), (21, "twenty one"), (100, "one hundred"),
        (117, "one hundred seventeen"), (1000, "one thousand"), (8001, "eight thousand one"),
        (9999, "nine thousand nine hundred ninety nine"),
    ],
)  # fmt: skip
def test_numbers_in_words(number: int, words: str) -> None:
    assert number_in_words(number) == words


def test_human_numbers_has_the_published_size(raw: Raw, build: Build, tmp_path: Path) -> None:
    manifest = build(build_human_numbers, raw(tmp_path))
    tokens, vocabulary = manifest.array("tokens"), manifest.facts["vocabulary"]
    assert len(tokens) == 63_095
    assert len(vocabulary) == 30
    words = [vocabulary[token] for token in tokens]
    assert " ".join(words[:6]) == "one . two . three ."
    lines = " ".join(words).split(" . ")
    assert len(lines) == 9998
    assert lines[7998:8000] == ["seven thousand nine hundred ninety nine", "eight thousand one"]
    # always answering "thousand" is the baseline on the last fifth
    assert np.mean(tokens[int(0.8 * len(tokens)) :] == vocabulary.index("thousand")) == pytest.approx(0.152, abs=0.002)


def test_a_play_becomes_plain_text_in_the_layout_of_tiny_shakespeare() -> None:
    assert play_text(PLAY) == (
        "First Citizen:\nBefore we proceed any further, hear me speak.\n'Tis -- so.\nWhat shouts are these?  Hm.\n\n"
        "All:\nSpeak, speak.\n\n"
        "ARIEL:\nBow-wow\n\n"
        "AUDLEY:\nMy lords.\n\n"
        "PAGE:\nWho's there?\n"
    )


def test_another_text_is_not_tiny_shakespeare(raw: Raw, build: Build, tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("First Citizen:\n")
    with pytest.raises(DataError, match=r"input.txt: sha256 .* another version"):
        build(build_shakespeare, raw(tmp_path))


def test_a_text_of_the_users_own(raw: Raw, build: Build, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("käse\nkäse\n", encoding="utf-8")
    manifest = build(build_text, raw(tmp_path))
    vocabulary = manifest.facts["vocabulary"]
    assert vocabulary == ["\n", "e", "k", "s", "ä"]
    assert "".join(vocabulary[token] for token in manifest.array("tokens")) == "käse\nkäse\n"
    assert manifest.array("tokens").dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "needs 2 to 256 different characters, has 0"),
        ("".join(map(chr, range(500, 800))).encode(), "needs 2 to 256 different characters, has 300"),
        (b"\xff\xfe\x00", "utf-8"),
    ],
)
def test_a_text_that_cannot_be_used(raw: Raw, build: Build, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "diary.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"diary.txt: .*{message}"):
        build(build_text, raw(tmp_path))


def test_two_texts_are_ambiguous(raw: Raw, build: Build, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("ab")
    with pytest.raises(DataError, match=r"needs exactly one .txt file, there are 2"):
        build(build_text, raw(tmp_path))
