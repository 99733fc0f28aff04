"""Parallel text for translation: aligned sentences, tokenised and numbered."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kvformer.data.listing import list_files
from kvformer.data.raw import RawFiles, check_digest, read_unpacked
from kvformer.data.tokens import MOSES, SPECIALS, UNKNOWN, suitable_tokens, tokenise
from kvformer.errors import DataError
from kvformer.files import read_json, sha256_bytes
from kvformer.records.manifest import ManifestWriter

SPLITS = ("train", "validation", "test")
USER_NAMES = {"train": "train", "validation": "val", "test": "test"}
"""What the user's files are called, by split."""

# SHA-256 of the decompressed files of Multi30k, task 1.
MULTI30K = {
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
}
# SHA-256 of the extracted sentence pairs, see build_pairs.
DING = "49f05d8bda42cbc9a8883e3f15e7c91195e554b8170bfd70d1a68f5c27e1c34c"
AUF_DEUTSCH = "ab46c129a9fe2bbaa20534293906030449e9b9a223e8ec88d699a73ba59b51ec"

Pair = tuple[str, str]


def build_parallel(
    raw: RawFiles,
    writer: ManifestWriter,
    names: dict[str, str] = USER_NAMES,
    digests: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Parallel text in files NAME.LANGUAGE, one sentence per line; `names` maps the splits to NAME.

    For each split and language: {split}_{language}_tokens (all tokens,) int32 with {split}_{language}_offsets
    (sentences + 1,) int64, so that sentence i is tokens[offsets[i]:offsets[i + 1]], without <bos> and <eos>; and the
    sentences themselves, as lines under {split}_{language}. The vocabulary, lines under {language}_vocabulary, is that
    of the train split: the four specials, then by falling count, ties alphabetically. Raises DataError, naming the
    file, for an empty file or line, and for unequal numbers of lines.
    """
    if digests is None:
        languages, paths, _ = _users_files(raw.location, names)
        contents = {name: (path, read_unpacked(path)) for name, path in paths.items()}
    else:
        languages = ["de", "en"]
        contents = {name: (raw.find(name), raw.read(name, digest=digest)) for name, digest in digests.items()}
    texts = {
        split: {language: _sentences(*contents[f"{name}.{language}"]) for language in languages}
        for split, name in names.items()
    }
    for split, sides in texts.items():
        first, second = sides.values()
        if len(first) != len(second):
            counts = " and ".join(f"{names[split]}.{language} {len(lines)}" for language, lines in sides.items())
            raise DataError(f"{raw.location}: unequal numbers of lines: {counts}")
    return save_parallel(texts, writer)


def passed_over(location: Path) -> list[str]:
    """Names of the user's files that are not used. Raises DataError where one is missing, or there twice."""
    return _users_files(location, USER_NAMES)[2]


def _users_files(location: Path, names: dict[str, str]) -> tuple[list[str], dict[str, Path], list[str]]:
    """The two languages of the user's files; the files, plain or gzipped, by NAME.LANGUAGE; and what is not used."""
    listing = list_files(location)
    found: dict[str, list[str]] = {}
    for path in listing.files:
        found.setdefault(Path(path).name.removesuffix(".gz"), []).append(path)
    train = f"{names['train']}."
    languages = sorted(file.removeprefix(train) for file in found if file.startswith(train))
    if len(languages) != 2:
        files = ", ".join(f"{train}{language}" for language in languages) or "none"
        raise DataError(f"{location}: needs {train}<language> in two languages, found {files}")
    wanted = [f"{name}.{language}" for name in names.values() for language in languages]
    for file in wanted:
        if file not in found:
            raise DataError(f"{location}: no file {file} in it")
        if len(found[file]) > 1:
            raise DataError(f"{location}: {file} is there {len(found[file])} times, as {', '.join(found[file])}")
    paths = {file: listing.files[found[file][0]] for file in wanted}
    others = [path for file, several in found.items() if file not in wanted for path in several]
    return languages, paths, sorted([*others, *listing.passed_over])


def _sentences(where: Path, content: bytes) -> list[str]:
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 ({error.reason} at byte {error.start})") from None
    if lines == [""]:
        raise DataError(f"{where}: empty file")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise DataError(f"{where}: line {number} is empty")
    return [line.strip() for line in lines]


def build_pairs(
    raw: RawFiles, writer: ManifestWriter, extract: Callable[[RawFiles], Iterable[Pair]], digest: str, held_out: int
) -> dict[str, Any]:
    """A collection of (German, English) pairs without splits, stored in the same way as by build_parallel.

    A sentence is kept only once per language, so no test sentence is in train. The pairs are sorted by their SHA-256;
    the first `held_out` are the test split, the next `held_out` validation, the rest train. `digest` is the SHA-256 of
    the lines "German<tab>English" of all pairs that are kept.
    """
    seen: set[str] = set()
    pairs = []
    for german, english in sorted(extract(raw), key=lambda pair: sha256_bytes("\t".join(pair).encode())):
        if german not in seen and english not in seen:
            seen |= {german, english}
            pairs.append((german, english))
    check_digest(raw.location, "".join(f"{german}\t{english}\n" for german, english in pairs).encode(), digest)
    bounds = {"test": (0, held_out), "validation": (held_out, 2 * held_out), "train": (2 * held_out, len(pairs))}
    texts = {
        split: {"de": [pair[0] for pair in pairs[low:high]], "en": [pair[1] for pair in pairs[low:high]]}
        for split, (low, high) in bounds.items()
    }
    return save_parallel(texts, writer)


def save_parallel(texts: dict[str, dict[str, list[str]]], writer: ManifestWriter) -> dict[str, Any]:
    """Tokenise `texts` (split, language, sentences) and store them; see build_parallel for the arrays."""
    languages = list(texts["train"])
    sizes = {}
    tokens = {language: suitable_tokens(sentences) for language, sentences in texts["train"].items()}
    for language in languages:
        kind = tokens[language].tokenizer
        tokenised = {split: list(tokenise(texts[split][language], language, kind)) for split in SPLITS}
        counts = Counter(token for sentence in tokenised["train"] for token in sentence)
        vocabulary = SPECIALS + sorted(counts.keys() - set(SPECIALS), key=lambda token: (-counts[token], token))
        index = {token: number for number, token in enumerate(vocabulary)}
        for split, sentences in tokenised.items():
            ids = [index.get(token, UNKNOWN) for sentence in sentences for token in sentence]
            offsets = np.cumsum([0, *map(len, sentences)], dtype=np.int64)
            writer.save(f"{split}_{language}_tokens", np.array(ids, dtype=np.int32))
            writer.save(f"{split}_{language}_offsets", offsets)
            writer.save_lines(f"{split}_{language}", texts[split][language])
        writer.save_lines(f"{language}_vocabulary", vocabulary)
        sizes[language] = len(vocabulary)
    pairs = {split: len(texts[split][languages[0]]) for split in SPLITS}
    facts = {"languages": languages, "pairs": pairs, "vocabulary_sizes": sizes}
    if all(choice == MOSES for choice in tokens.values()):
        return {**facts, "specials": SPECIALS, "tokenizer": "Moses"}
    choices = {language: choice._asdict() for language, choice in tokens.items()}
    return {**facts, "specials": SPECIALS, "tokenizer": choices}


def ding_pairs(raw: RawFiles) -> Iterator[Pair]:
    """Sentences of the dictionary Ding, whose lines align segments: "de | de | … :: en | en | …".

    After notes in (), [], {} and <> are removed, segments are used where both sides are whole sentences: they start
    with a capital, end with a full stop, ! or ?, and have at least three words, no alternatives ("a/b"), no ellipses
    and no other marks. Of several translations ("A.; B.") the first is used.
    """
    for line in raw.read("de-en").decode("utf-8").split("\n"):
        german, _, english = line.partition(" :: ")
        sides = german.split(" | "), english.split(" | ")
        if line.startswith("#") or len(sides[0]) != len(sides[1]):
            continue
        for pair in zip(*sides, strict=True):
            if not all(segment[:1].isupper() for segment in pair):
                continue  # most segments are words or phrases, and cleaning is slow
            source, target = (_clean(re.split(r"(?<=[.!?]); ", segment)[0]) for segment in pair)
            if _is_sentence(source) and _is_sentence(target):
                yield source, target


def _clean(segment: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\s*(\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|<[^<>]*>)", "", segment)).strip()


def _is_sentence(text: str) -> bool:
    return (
        text[:1].isupper() and text[-1:] in ".!?" and text.count(" ") >= 2 and not re.search(r"[/;…(){}\[\]<>|]", text)
    )


def auf_deutsch_pairs(raw: RawFiles) -> Iterator[Pair]:
    """Every {"de": …, "en": …} in the lessons of the package auf-deutsch."""
    for path in sorted(raw.find("curriculum.json").parent.rglob("*.json")):
        try:
            yield from _pairs_within(read_json(path))
        except ValueError as error:
            raise DataError(f"{path}: not valid JSON ({error})") from None


def _pairs_within(node: Any) -> Iterator[Pair]:
    if isinstance(node, dict):
        german, english = node.get("de"), node.get("en")
        if isinstance(german, str) and isinstance(english, str) and german.strip() and english.strip():
            yield " ".join(german.split()), " ".join(english.split())
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _pairs_within(child)
