"""How the C library deals with freed memory: as kvformer's training sets it, and as it does by itself.

The published scripts leave it alone, so each side of a comparison takes its turns as it would run. glibc raises its
threshold for single mappings to 32 MiB, and that for trimming to twice as much, as large tensors are freed.
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kvformer.models.fast.memory import keep_memory

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4


def kept(action: Callable[[], Any]) -> Callable[[], None]:
    """The action in a process that keeps its memory."""

    def run() -> None:
        keep_memory()
        action()

    return run


def returned(action: Callable[[], Any]) -> Callable[[], None]:
    """The action in a process as the C library starts it."""

    def run() -> None:
        with suppress(OSError, AttributeError, TypeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_MAX, 65_536)
            mallopt(M_MMAP_THRESHOLD, 32 << 20)
            mallopt(M_TRIM_THRESHOLD, 64 << 20)
        action()

    return run
