"""Timing of actions that are compared: in turns, in one thread, by processor time.

On an idle machine processor time equals the time on the clock, because all work is done in one thread. On a busy one it
leaves out the time in which other programs had the processor.
"""

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

TURN_SECONDS = 0.05
"""Actions that take less are repeated within a turn until they fill this time."""


Clock = Callable[[Callable[[], Any], int], float]
"""Seconds per execution of an action that is repeated this many times."""


def in_turns(
    actions: Mapping[str, Callable[[], Any]], rounds: int, clock: Clock | None = None
) -> dict[str, list[float]]:
    """Seconds per execution of each action, one value per round. Every round executes all actions, every second round
    in reverse order. clock: default is processor time."""
    timed = clock or _seconds
    repeats = {}
    for name, action in actions.items():
        first = timed(action, 1)  # warm-up
        repeats[name] = 1 if first > 1 else max(1, math.ceil(TURN_SECONDS / max(timed(action, 1), 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds):
        for name in sorted(actions, reverse=bool(turn % 2)):
            seconds[name].append(timed(actions[name], repeats[name]))
    return seconds


def _seconds(action: Callable[[], Any], repeats: int) -> float:
    begin = time.process_time_ns()
    for _ in range(repeats):
        action()
    return (time.process_time_ns() - begin) / 1e9 / repeats


def on_device(device: torch.device) -> Clock:
    """A clock on the wall that waits for the device before and after the action."""

    def seconds(action: Callable[[], Any], repeats: int) -> float:
        wait(device)
        begin = time.perf_counter()
        for _ in range(repeats):
            action()
        wait(device)
        return (time.perf_counter() - begin) / repeats

    return seconds


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return low, middle, high


def ratios(above: list[float], below: list[float]) -> tuple[float, float, float]:
    """Spread of the ratios of the rounds."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


class OperationClock(TorchDispatchMode):
    """Milliseconds of processor time of each PyTorch operation while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.milliseconds: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        begin = time.process_time_ns()
        result = func(*args, **(kwargs or {}))
        self.milliseconds[str(func)] += (time.process_time_ns() - begin) / 1e6
        return result

    def shares(self, most: int = 6) -> str:
        """The operations that take the most time, with their shares."""
        total = sum(self.milliseconds.values())
        largest = sorted(self.milliseconds.items(), key=lambda item: -item[1])[:most]
        return ", ".join(f"{name.removesuffix('.default')} {value / total:.0%}" for name, value in largest)


def product_rates(size: int = 1024) -> dict[str, Callable[[], Any]]:
    """The peak rate of a core: products of two square matrices by torch.mm and by oneDNN, 2·size³ operations each."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    rates: dict[str, Callable[[], Any]] = {"torch.mm": lambda: torch.mm(a, b)}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        rates["oneDNN"] = lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return rates
