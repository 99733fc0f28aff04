"""The index of the largest entry of each row.

Why: over a vocabulary, NumPy's argmax is about nine times faster than PyTorch's on a CPU (measured in greedy decoding).
Remove when `Tensor.argmax` over a contiguous last axis is as fast.
"""

import torch
from torch import Tensor


def argmax(x: Tensor) -> Tensor:
    """x (…, n) without gradient to indices (…); the first of equal entries."""
    return torch.from_numpy(x.numpy().argmax(axis=-1)) if x.device.type == "cpu" else x.argmax(dim=-1)
