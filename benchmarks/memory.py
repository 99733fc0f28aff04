"""What the C library does with freed memory: kvformer's training keeps it, the published scripts use the default.

Each side of a comparison takes its turns in its own mode. When large tensors are freed, glibc raises its threshold for
single mappings to 32 MiB, and its threshold for trimming to twice that.
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kvformer.models.fast.memory import keep_memory

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4


def kept(action: Callable[[], Any]) -> Callable[[], None]:
    """The action, in a process that keeps freed memory."""

    def run() -> None:
        keep_memory()
        action()

    return run


def returned(action: Callable[[], Any]) -> Callable[[], None]:
    """The action, in a process with the default settings of the C library."""

    def run() -> None:
        with suppress(OSError, AttributeError, TypeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_MAX, 65_536)
            mallopt(M_MMAP_THRESHOLD, 32 << 20)
            mallopt(M_TRIM_THRESHOLD, 64 << 20)
        action()

    return run
