"""BLEU in two forms: on tokens, as published, and by sacrebleu on detokenised text, as results should be compared."""

from typing import Any

from kvformer.data.tokens import BEGIN, END, MOSES, SPECIALS, Tokens, detokenise, tokenise
from kvformer.errors import DataError


def detokenised_bleu(words: list[list[str]], references: list[str], language: str, tokens: Tokens = MOSES) -> float:
    """sacrebleu's corpus BLEU (0 to 100) of detokenised sentences against the untouched references.

    Raises DataError for lists of unequal length.
    """
    sentences = [detokenise(sentence, language, tokens.tokenizer) for sentence in words]
    return _corpus_bleu(sentences, references, tokenize=tokens.scoring)


def token_bleu(words: list[list[str]], references: list[str], language: str, tokens: Tokens = MOSES) -> float:
    """Corpus BLEU-4 (0 to 100) on tokens, <bos> and <eos> included, without smoothing: the published metric.

    The two markers are nearly always right, which makes it higher than BLEU on the words alone. Raises DataError for
    lists of unequal length.
    """
    begin, end = SPECIALS[BEGIN], SPECIALS[END]
    expected = [" ".join([begin, *sentence, end]) for sentence in tokenise(references, language, tokens.tokenizer)]
    hypotheses = [" ".join(sentence) for sentence in words]
    return _corpus_bleu(hypotheses, expected, smooth_method="none", tokenize="none", force=True)


def _corpus_bleu(sentences: list[str], references: list[str], **how: Any) -> float:
    import sacrebleu

    if len(sentences) != len(references):  # sacrebleu compares as many as the shorter list has
        raise DataError(f"BLEU: {len(sentences)} translations, but {len(references)} references")
    return float(sacrebleu.corpus_bleu(sentences, [references], **how).score)
