"""Greedy decoding with and without the KV cache, at growing contexts."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import in_turns, ratios, spread
from kvformer.config.loading import load_study
from kvformer.models.attention import DecoderCache
from kvformer.models.build import build_model
from kvformer.models.gpt import GPT

VARIANTS = ("qkv", "kv", "kv_pos", "q_kv", "k", "mqa")
CONTEXTS = (64, 128, 256, 512, 1024)
TOKENS = 4
"""Tokens generated per turn: the last ones of the context."""


def measure(context: int, rounds: int) -> list[dict[str, Any]]:
    """Tokens per second of each variant at the end of a context, one sequence, GPT with d 192 and 6 layers."""
    actions: dict[str, Callable[[], Any]] = {}
    for variant in VARIANTS:
        section = {"data": {"context": context}, "variants": [variant], "seeds": [0]}
        (run,) = load_study({"tasks": {"characters": section}}).runs()
        model = build_model(run, run.definition.shape(run.data, None)).eval()
        assert isinstance(model, GPT)
        prompt = torch.randint(65, (1, context - TOKENS))
        cache = DecoderCache()
        with torch.no_grad():
            model(prompt, cache)
        actions[f"cached {variant}"] = lambda model=model, cache=cache: _cached(model, cache, context - TOKENS)
        actions[f"whole {variant}"] = lambda model=model, prompt=prompt: _whole(model, prompt)
    seconds = in_turns(actions, rounds)
    rows = []
    for variant in VARIANTS:
        cached, whole = seconds[f"cached {variant}"], seconds[f"whole {variant}"]
        gain = ratios(whole, cached)
        rows.append(
            {
                "context": context,
                "variant": variant,
                "cached_tokens_per_second": TOKENS / spread(cached)[1],
                "whole_tokens_per_second": TOKENS / spread(whole)[1],
                "gain": gain[1],
                "gain_low": gain[0],
                "gain_high": gain[2],
            }
        )
    return rows


@torch.no_grad()
def _cached(model: GPT, cache: DecoderCache, start: int) -> None:
    for layer in cache.self_attention.values():
        layer.length = layer.queried = start  # later entries are overwritten
    token = torch.zeros(1, 1, dtype=torch.long)
    for _ in range(TOKENS):
        token = model(token, cache)[:, -1].argmax(dim=-1, keepdim=True)


@torch.no_grad()
def _whole(model: GPT, tokens: Tensor) -> None:
    for _ in range(TOKENS):
        tokens = torch.cat([tokens, model(tokens)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
