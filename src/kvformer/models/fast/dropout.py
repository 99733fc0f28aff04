"""Dropout whose random draws are cheap on CPUs.

Why: PyTorch's dropout spends most of its time on a CPU in drawing one Bernoulli variable per element; in a training
step of a small encoder that was a fifth of the time. Here four elements share one 64-bit draw, 16 bits each, which is
about eight times faster. Remove when `torch.nn.functional.dropout` on a CPU takes as long as a multiplication.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def dropout(x: Tensor, probability: float) -> Tensor:
    """Zero each element with this probability and scale the others by 1 / (1 - probability).

    On CPUs the probability is exact to 1/65536; GPUs use PyTorch's kernel.
    """
    if probability == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability)
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    threshold = min(round(probability * 65536), 65535) - 32768
    factors = torch.empty(x.shape, dtype=x.dtype)
    torch.ge(draws.view(torch.int16)[: x.numel()].view(x.shape), threshold, out=factors)  # 0 or 1, as floats at once
    return x * factors.mul_(1 / (1 - probability))
