"""Incremental decoding with a key/value cache."""

import torch
from torch import Tensor

from kvformer.models.blocks import DecoderCache
from kvformer.models.gpt import GPT


@torch.no_grad()
def generate(
    model: GPT, prompt: Tensor, length: int, temperature: float = 0.0, random: torch.Generator | None = None
) -> Tensor:
    """Continue `prompt` (B, N) to `length` tokens, (B, length); greedy at temperature 0, else sampled.

    The model reads each token once. Where the text outgrows the model's context, the cache is made anew from the later half of the
    context, since positions are absolute.
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
