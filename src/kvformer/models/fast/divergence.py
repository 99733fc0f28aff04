"""The label-smoothed divergence of translation, in few passes over the vocabulary.

Why: `F.kl_div` on smoothed targets makes several tensors as large as the logits (rows x vocabulary). The closed
gradient below needs one. Remove when `F.cross_entropy` can leave a symbol (padding) out of the label smoothing.
"""

import math

import torch
from torch import Tensor

from kvformer.data.tokens import PADDING


def smoothed_divergence(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Σ KL(smoothed target ‖ model) in nats over rows of logits (R, V) with their labels (R,).

    The smoothed target gives 1 - s to the label and s / (V - 2) to each other symbol, padding excepted.
    """
    others = logits.shape[-1] - 2
    entropy = (1 - smoothing) * _log(1 - smoothing) + smoothing * _log(smoothing / others)
    return len(labels) * entropy + _CrossEntropy.apply(logits.float(), labels, 1 - smoothing, smoothing / others)


class _CrossEntropy(torch.autograd.Function):
    """-Σ target·log softmax(logits) with target `right` at the label, 0 at padding, `other` elsewhere.

    The gradient is softmax(logits) - target, written at once: the sums and gathers of plain operations would each make
    a tensor as large as the logits.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, logits: Tensor, labels: Tensor, right: float, other: float
    ) -> Tensor:
        log_q = torch.log_softmax(logits, dim=-1)
        ctx.save_for_backward(log_q, labels)
        ctx.target = right, other  # type: ignore[attr-defined]
        at_label = log_q.gather(1, labels[:, None]).sum()
        return -(right - other) * at_label - other * (log_q.sum() - log_q[:, PADDING].sum())

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        log_q, labels = ctx.saved_tensors  # type: ignore[attr-defined]
        right, other = ctx.target  # type: ignore[attr-defined]
        result = log_q.exp().sub_(other)
        result[:, PADDING] += other
        result.scatter_add_(1, labels[:, None], labels.new_full((len(labels), 1), other - right, dtype=result.dtype))
        return result.mul_(gradient), None, None, None


def _log(x: float) -> float:
    return math.log(x) if x > 0 else 0.0
