"""The norms of a transformer's blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kvformer.spec.sections import ModelConfig

EPSILON = 1e-6


class RMSNorm(nn.Module):
    """w∘x/√(mean x² + ε) over the last axis (Zhang & Sennrich 2019, arXiv 1910.07467), in float32 under autocast."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(…, d) to (…, d)."""
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        return F.rms_norm(wide, self.weight.shape, self.weight.to(wide.dtype), EPSILON)


def make_norm(model: ModelConfig) -> nn.Module:
    """The norm of the blocks, d wide."""
    return RMSNorm(model.dim) if model.norm_kind == "rmsnorm" else nn.LayerNorm(model.dim)
