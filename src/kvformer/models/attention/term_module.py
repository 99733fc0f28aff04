"""A term (`spec.terms`) as a module: its parameters and constants on a device."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kvformer.models.attention.cache import KeyValueCache
from kvformer.models.fast.directions import without
from kvformer.models.fast.linear import linear
from kvformer.spec.terms import Span, Stream, Term


class TermModule(nn.Module):
    """The parameters and constants of a term, and fast operations that a term may use; the methods are the term's."""

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

    def queries(self, queries: Tensor, first: int) -> Tensor:
        """(B, H, N, h) of positions first … first + N - 1."""
        return self.term.queries(self, queries, first)

    def keys(self, keys: Tensor, first: int, cache: KeyValueCache | None) -> Tensor:
        """New keys (B, G, N, h) as they are stored."""
        return self.term.keys(self, keys, first, cache)

    def values(self, values: Tensor) -> Tensor:
        """New values (B, G, N, h) as they are stored."""
        return self.term.values(self, values)

    def read(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All stored keys and values (B, G, M, h) as they meet the queries."""
        return self.term.read(self, keys, values)

    def gain(self) -> Tensor | None:
        """Factor s on the logits, (1 or H,)."""
        return self.term.gain(self)

    def cosine(self) -> Tensor | None:
        """Mean of cos φ, for terms that turn queries."""
        return self.term.cosine(self)

    def key_bias(self, span: Span) -> Tensor | None:
        """γ, (1 or H, keys)."""
        return self.term.key_bias(self, span)

    def logit_bias(self, span: Span) -> Tensor | None:
        """r, (1 or H, queries, keys)."""
        return self.term.logit_bias(self, span)

    def outputs(self, outputs: Tensor, x: Tensor, values: Tensor, first: int) -> Tensor:
        """The mixed values (B, H, N, h)."""
        return self.term.outputs(self, outputs, x, values, first)


def add_up(terms: Iterable[TermModule], span: Span) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The product of the gains and the sums of key biases and biases of all terms; None where no term has one."""
    gain = key_bias = bias = None
    for term in terms:
        factor, column, both = term.gain(), term.key_bias(span), term.logit_bias(span)
        gain = factor if gain is None else gain if factor is None else gain * factor
        key_bias = column if key_bias is None else key_bias if column is None else key_bias + column
        bias = both if bias is None else bias if both is None else bias + both
    return gain, key_bias, bias
