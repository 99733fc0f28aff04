"""The parameters of a term (`spec.terms`) as a module, and the sum of what terms do to the logits."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kvformer.models.fast.directions import without
from kvformer.models.fast.linear import linear
from kvformer.spec.terms import Span, Stream, Term


class TermModule(nn.Module):
    """The parameters and constants of a term, and fast operations that it may use: the `p` of its methods."""

    linear = staticmethod(linear)
    without = staticmethod(without)

    def __init__(self, term: Term) -> None:
        super().__init__()
        self.term = term
        for name, shape in term.shapes().items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        for name, array in term.constants().items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def initialise(self, scheme: str, stream: Stream) -> None:
        """Give the parameters their first values."""
        with torch.no_grad():
            self.term.initialise(self, scheme, stream)


def add_up(terms: Iterable[tuple[Term, TermModule]], span: Span) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The product of the gains and the sums of key biases and biases of all terms; None where no term has one."""
    gain = key_bias = bias = None
    for term, p in terms:
        factor, column, both = term.gain(p), term.key_bias(p, span), term.logit_bias(p, span)
        gain = factor if gain is None else gain if factor is None else gain * factor
        key_bias = column if key_bias is None else key_bias if column is None else key_bias + column
        bias = both if bias is None else bias if both is None else bias + both
    return gain, key_bias, bias
