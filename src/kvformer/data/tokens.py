"""Words of translation: how sentences are split into tokens and joined again, and the symbols of every vocabulary.

Tokens are those of the Moses tokenizer (package sacremoses: rules, no model download), case kept as torchtext's spaCy
pipeline keeps it. It departs from spaCy in English contractions ("don 't" instead of "do n't") and in hyphenated words
("t-shirt" stays one token).
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

UNKNOWN, PADDING, BEGIN, END = range(4)
"""The first four symbols of every vocabulary."""
SPECIALS = ["<unk>", "<pad>", "<bos>", "<eos>"]
"""The same, as the vocabulary writes them."""


def tokenise(sentences: Iterable[str], language: str) -> Iterator[list[str]]:
    """Split each sentence into Moses tokens, nothing escaped."""
    from sacremoses import MosesTokenizer

    tokenizer = MosesTokenizer(language)
    for sentence in sentences:
        yield tokenizer.tokenize(sentence, escape=False)


def detokenise(tokens: list[str], language: str) -> str:
    """Join Moses tokens to the text that sacrebleu should see."""
    text: str = _detokenizer(language).detokenize(tokens, unescape=False)
    return text


@functools.lru_cache
def _detokenizer(language: str) -> Any:
    from sacremoses import MosesDetokenizer

    return MosesDetokenizer(language)
