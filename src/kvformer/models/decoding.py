"""Incremental decoding with a key/value cache: continuing a text, and translating by greedy or beam search."""

import torch
from torch import Tensor

from kvformer.models.blocks import DecoderCache
from kvformer.models.gpt import GPT
from kvformer.models.seq2seq import Seq2Seq
from kvformer.tasks.translation import BEGIN, END, PADDING


@torch.no_grad()
def generate(
    model: GPT, prompt: Tensor, length: int, temperature: float = 0.0, random: torch.Generator | None = None
) -> Tensor:
    """Continue `prompt` (B, N) to `length` tokens, (B, length); greedy at temperature 0, else sampled.

    The model reads each token once. Where the text outgrows the model's context, the cache is made anew from the later
    half of the context, since positions are absolute.
    """
    tokens, cache, unread = prompt, DecoderCache(), prompt
    while tokens.shape[1] < length:
        if cache.length + unread.shape[1] > model.max_length:
            cache, unread = DecoderCache(), tokens[:, -(model.max_length // 2) :]
        logits = model(unread, cache)[:, -1]
        if temperature == 0.0:
            unread = logits.argmax(dim=-1, keepdim=True)
        else:
            chances = torch.softmax(logits.float().cpu() / temperature, dim=-1)
            unread = torch.multinomial(chances, 1, generator=random).to(tokens.device)
        tokens = torch.cat([tokens, unread], dim=1)
    return tokens


@torch.no_grad()
def translate(model: Seq2Seq, source: Tensor, beam: int = 1, cached: bool = True) -> Tensor:
    """Translate `source` (B, M) into rows <bos> … <eos> <pad> …, (B, at most the model's length).

    beam 1 is greedy; a wider beam ranks finished translations by their mean log-probability a token. Without the cache
    the whole translation is read again for every token: the same result, slower.
    """
    padding = source == PADDING
    memory = model.encode(source, padding).repeat_interleave(beam, dim=0)
    padding = padding.repeat_interleave(beam, dim=0)
    batch = len(source)
    tokens = torch.full((batch * beam, 1), BEGIN, device=source.device)
    scores = torch.full((batch, beam), -torch.inf, device=source.device)
    scores[:, 0] = 0.0  # the beams of a sentence start out equal: only the first may be continued
    finished = torch.zeros(batch * beam, dtype=torch.bool, device=source.device)
    cache = DecoderCache() if cached else None
    while tokens.shape[1] < model.max_length and not bool(finished.all()):
        unread = tokens[:, -1:] if cached else tokens
        logits = model.head(model.decode(unread, memory, padding, cache)[:, -1]).float()
        if beam == 1:
            chosen = torch.where(finished, PADDING, logits.argmax(dim=-1))
        else:
            rows, chosen, scores = _best(logits, scores, finished, beam)
            tokens, finished = tokens[rows], finished[rows]
            if cache is not None:
                cache.reorder(rows)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        finished = finished | (chosen == END)
    if beam == 1:
        return tokens
    lengths = (tokens[:, 1:] != PADDING).sum(dim=1).view(batch, beam)
    best = (scores / lengths).argmax(dim=1)
    return tokens.view(batch, beam, -1)[torch.arange(batch, device=source.device), best]


def _best(logits: Tensor, scores: Tensor, finished: Tensor, beam: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations: rows of the beams that they continue, their new tokens, their scores (B, beam)."""
    batch, vocabulary = len(scores), logits.shape[-1]
    steps = torch.log_softmax(logits, dim=-1)
    steps[finished] = -torch.inf
    steps[:, PADDING] = torch.where(finished, 0.0, -torch.inf)  # a finished translation stays as it is
    totals = (scores.view(-1, 1) + steps).view(batch, -1)
    top, places = totals.topk(beam, dim=1)
    rows = places // vocabulary + torch.arange(batch, device=scores.device)[:, None] * beam
    return rows.flatten(), (places % vocabulary).flatten(), top
