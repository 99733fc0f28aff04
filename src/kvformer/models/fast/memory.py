"""Keeping freed memory in the process.

Why: glibc returns every large block to the system when a tensor is freed, and the system clears the pages again when
the next tensor needs them. In translation this took half of a training step. Remove when PyTorch's CPU allocator
keeps freed memory by itself, as its CUDA allocator does.
"""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt."""


def keep_memory() -> None:
    """Tell the C library to keep freed memory; does nothing where it is not glibc."""
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
