"""Words of translation: how sentences are split into tokens and joined again, and the symbols of every vocabulary.

Tokens are those of the Moses tokenizer (package sacremoses: rules, no model download), case kept as torchtext's spaCy
pipeline keeps it. It departs from spaCy in English contractions ("don 't" instead of "do n't") and in hyphenated words
("t-shirt" stays one token). Moses needs spaces between words: where a script has none, every character is a token. And
Moses cuts words at combining marks, such as the virama of Hindi: where there are such, words are split at spaces only.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any, NamedTuple

from kvformer.data.scripts import CHINESE, HANGUL, MARK, SYLLABLE, UNSPACED

UNKNOWN, PADDING, BEGIN, END = range(4)
"""The first four symbols of every vocabulary."""
SPECIALS = ["<unk>", "<pad>", "<bos>", "<eos>"]
"""The same, as the vocabulary writes them."""
SENTENCES = 10_000
"""Number of sentences from which a language's tokens are chosen."""


class Tokens(NamedTuple):
    """How a language is split into tokens, and which tokenizer sacrebleu scores it with."""

    tokenizer: str = "Moses"
    scoring: str = "13a"


MOSES = Tokens()


def suitable_tokens(sentences: Iterable[str]) -> Tokens:
    """The tokens that fit the script of most letters, so that a perfect translation has BLEU 100.

    Scores follow sacrebleu's advice, "zh" for Chinese; what it recommends for Japanese and Korean needs a dictionary,
    so these and all other scripts without spaces are scored by character.
    """
    text = "".join(islice(sentences, SENTENCES))
    half = len(LETTER.findall(text)) / 2
    if len(HANGUL.findall(text)) > half:
        return Tokens(scoring="char")
    if len(UNSPACED.findall(text)) > half:
        return Tokens("characters", "zh" if len(CHINESE.findall(text)) > half else "char")
    return Tokens("spaces") if len(MARK.findall(text)) > half / 100 else MOSES


def tokenise(sentences: Iterable[str], language: str, tokenizer: str = "Moses") -> Iterator[list[str]]:
    """Split each sentence into Moses tokens, nothing escaped; at spaces; or into characters and the Moses tokens
    between them."""
    from sacremoses import MosesTokenizer

    moses = MosesTokenizer(language)
    for sentence in sentences:
        if tokenizer == "Moses":
            yield moses.tokenize(sentence, escape=False)
        elif tokenizer == "spaces":
            yield sentence.split()
        else:
            parts = enumerate(SYLLABLE.split(sentence))  # every other part is a character of a script without spaces
            split = (
                [part] if place % 2 else moses.tokenize(part, escape=False) for place, part in parts if part.strip()
            )
            yield [token for tokens in split for token in tokens]


def detokenise(tokens: list[str], language: str, tokenizer: str = "Moses") -> str:
    """Join tokens to the text that sacrebleu should see."""
    if tokenizer == "spaces":
        return " ".join(tokens)
    moses = _detokenizer(language)
    if tokenizer == "Moses":
        text: str = moses.detokenize(tokens, unescape=False)
        return text
    parts = groupby(tokens, lambda token: SYLLABLE.fullmatch(token) is not None)
    return "".join("".join(part) if alone else moses.detokenize(list(part), unescape=False) for alone, part in parts)


LETTER = re.compile(r"[^\W\d_]")


@functools.lru_cache
def _detokenizer(language: str) -> Any:
    from sacremoses import MosesDetokenizer

    return MosesDetokenizer(language)
