"""BLEU in two forms: on tokens, as published, and by sacrebleu on detokenised text, as results should be compared."""

from kvformer.data.tokens import BEGIN, END, SPECIALS, detokenise, tokenise


def detokenised_bleu(words: list[list[str]], references: list[str], language: str) -> float:
    """sacrebleu's corpus BLEU (0 to 100) of detokenised sentences against the untouched references."""
    import sacrebleu

    sentences = [detokenise(sentence, language) for sentence in words]
    return float(sacrebleu.corpus_bleu(sentences, [references]).score)


def token_bleu(words: list[list[str]], references: list[str], language: str) -> float:
    """Corpus BLEU-4 (0 to 100) on tokens, <bos> and <eos> included, without smoothing: the published metric.

    The two markers are nearly always right, which makes it higher than BLEU on the words alone.
    """
    import sacrebleu

    begin, end = SPECIALS[BEGIN], SPECIALS[END]
    expected = [" ".join([begin, *tokens, end]) for tokens in tokenise(references, language)]
    hypotheses = [" ".join(sentence) for sentence in words]
    score = sacrebleu.corpus_bleu(hypotheses, [expected], smooth_method="none", tokenize="none", force=True)
    return float(score.score)
