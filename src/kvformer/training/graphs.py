"""CUDA graphs: the work of a function, recorded once and launched again as a whole.

A small model's step is a few hundred kernels of microseconds. Launching them one by one keeps a GPU waiting for the
CPU; launching a graph of them does not.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache

import torch

Action = Callable[[], None]
Recorder = Callable[[Action, Action], Action]
"""Takes a function and one that undoes what it did; returns the function's replay."""
WARM_UP = 2
"""Calls before a function is recorded, in which libraries allocate what they keep."""


def recorder(device: torch.device) -> Recorder | None:
    """What records functions on this device; None where nothing does."""
    return record if device.type == "cuda" else None


def recorded(record: Recorder, action: Action, undo: Action) -> tuple[Action, bool]:
    """The replay of a function and true; the function itself and false, and a line that says so, where it cannot be
    recorded."""
    try:
        return record(action, undo), True
    except RuntimeError as error:
        undo()
        reason = str(error).partition("\n")[0]
        print(f"the training step is not recorded as a CUDA graph ({reason}); going on without", flush=True)
        return action, False


def record(action: Action, undo: Action) -> Action:
    """Record what `action` does on the current GPU. Recording computes nothing; `undo` follows the warm-up before it.

    `action` must do the same work on the same tensors each time, and nothing on the CPU that matters. Random numbers
    of a replay follow from the seed of the GPU's generator at that time, as those of a call do: PyTorch registers its
    default generator with every graph.

    Raises:
        RuntimeError: something in `action` cannot be recorded. The GPU and its generator can be used again.
    """
    stream, current = _stream(torch.cuda.current_device()), torch.cuda.current_stream()
    stream.wait_stream(current)
    try:
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                action()
            undo()
            torch.cuda.synchronize()
            return _graph_of(action).replay
    finally:
        current.wait_stream(stream)


def _graph_of(action: Action) -> torch.cuda.CUDAGraph:
    """The graph of `action`. Unlike `torch.cuda.graph`, this does not empty PyTorch's cache of memory."""
    graph = torch.cuda.CUDAGraph()
    try:
        graph.capture_begin()
        try:
            action()
        except BaseException:
            with suppress(RuntimeError):  # the first error says what is wrong
                graph.capture_end()
            raise
        graph.capture_end()
    except BaseException:
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())  # the old state may still count as recording
        raise
    return graph


@cache
def _stream(device: int) -> torch.cuda.Stream:
    """One stream for all recordings: libraries keep memory for each stream that they have seen."""
    return torch.cuda.Stream(device)
