"""Incremental decoding with a key/value cache: continuing a text, and translating by greedy or beam search."""

import torch
from torch import Tensor

from kvformer.data.tokens import BEGIN, END, PADDING
from kvformer.models.attention import DecoderCache
from kvformer.models.fast.argmax import argmax
from kvformer.models.gpt import GPT
from kvformer.models.seq2seq import Seq2Seq


@torch.no_grad()
def generate(
    model: GPT, prompt: Tensor, length: int, temperature: float = 0.0, random: torch.Generator | None = None
) -> Tensor:
    """Continue `prompt` (B, N) to `length` tokens, (B, length); greedy at temperature 0, else sampled.

    The model reads each token once. Where the text outgrows the model's context, the cache is rebuilt from the later
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

    beam 1 is greedy; a wider beam ranks finished translations by their mean log-probability per token. Without the
    cache the whole translation is read again for every token: the same result, slower.
    """
    padding = source == PADDING
    writer = _Writer(model, model.encode(source, padding), padding, cached)
    return _greedy(writer) if beam == 1 else _beam_search(writer, beam)


class _Writer:
    """Translations in progress: their sources, and the cache."""

    def __init__(self, model: Seq2Seq, memory: Tensor, padding: Tensor, cached: bool) -> None:
        self.model, self.memory, self.padding = model, memory, padding
        self.cache = DecoderCache() if cached else None

    def next_logits(self, tokens: Tensor) -> Tensor:
        """Logits of the next token (B, V) after `tokens` (B, N), which have grown by one since the last call."""
        model = self.model
        unread = tokens if self.cache is None else tokens[:, -1:]
        hidden = model.decode(unread, self.memory, self.padding, self.cache)
        if self.cache is not None and tokens.shape[1] == self.memory.shape[1] and model.lengths_matter:
            hidden = model.decode(tokens, self.memory, self.padding)
        return model.head(hidden[:, -1]).float()

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, in this order."""
        self.memory, self.padding = self.memory[rows], self.padding[rows]
        if self.cache is not None:
            self.cache.reorder(rows)


def _greedy(writer: _Writer) -> Tensor:
    batch, length, device = len(writer.memory), writer.model.max_length, writer.memory.device
    tokens = torch.full((batch, length), PADDING, device=device)
    tokens[:, 0] = BEGIN
    rows = torch.arange(batch, device=device)  # translations still being written; finished ones are dropped in groups
    finished = torch.zeros(batch, dtype=torch.bool, device=device)
    for place in range(1, length):
        best = argmax(writer.next_logits(tokens[rows, :place]))
        tokens[rows, place] = torch.where(finished, PADDING, best)
        finished = finished | (best == END)
        if bool(finished.all()):
            return tokens[:, : place + 1]
        if int(finished.sum()) * 8 >= len(finished):
            kept = (~finished).nonzero()[:, 0]
            rows, finished = rows[kept], finished[kept]
            writer.keep(kept)
    return tokens


def _beam_search(writer: _Writer, beam: int) -> Tensor:
    batch, device = len(writer.memory), writer.memory.device
    writer.keep(torch.arange(batch, device=device).repeat_interleave(beam))
    tokens = torch.full((batch * beam, 1), BEGIN, device=device)
    scores = torch.full((batch, beam), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all beams of a sentence start equal, so only the first is continued
    finished = torch.zeros(batch * beam, dtype=torch.bool, device=device)
    while tokens.shape[1] < writer.model.max_length and not bool(finished.all()):
        rows, chosen, scores = _best(writer.next_logits(tokens), scores, finished, beam)
        writer.keep(rows)
        tokens = torch.cat([tokens[rows], chosen[:, None]], dim=1)
        finished = finished[rows] | (chosen == END)
    lengths = (tokens[:, 1:] != PADDING).sum(dim=1).view(batch, beam)
    best = (scores / lengths).argmax(dim=1)
    return tokens.view(batch, beam, -1)[torch.arange(batch, device=device), best]


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
