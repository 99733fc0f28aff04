"""What a decoder keeps of the tokens that it has already seen."""

from typing import NamedTuple

from torch import Tensor


class KeysValues(NamedTuple):
    """Keys and values of one attention layer as they are stored, (B, G, M, h) each; `values is keys` where one map
    makes both. Where terms put keys or values together from stored parts, these may differ in heads and width."""

    keys: Tensor
    values: Tensor

    @property
    def shared(self) -> bool:
        """Whether keys and values are one tensor."""
        return self.values is self.keys

    def first(self, tokens: int) -> "KeysValues":
        """Views of the first tokens."""
        keys = self.keys[:, :, :tokens]
        return KeysValues(keys, keys if self.shared else self.values[:, :, :tokens])

    def empty(self, tokens: int) -> "KeysValues":
        """An empty buffer for this many tokens, otherwise of the same shape."""
        keys, values = (part.new_empty(*part.shape[:2], tokens, part.shape[3]) for part in self)
        return KeysValues(keys, keys if self.shared else values)

    def write(self, start: int, new: "KeysValues") -> None:
        """Copy the tokens of `new` to the positions from `start` on."""
        for buffer, part in zip(self, new, strict=True):
            buffer[:, :, start : start + part.shape[2]] = part
            if self.shared:
                break


class KeyValueCache:
    """Keys and values of the tokens that a decoder has already seen, for one attention layer that owns them.

    They are kept in buffers that double when they are full: a new token is written, the others are not copied.
    """

    def __init__(self) -> None:
        self._buffer: KeysValues | None = None
        self.length = 0
        """Tokens in the cache."""
        self.tail: Tensor | None = None
        """What a term keeps of the newest token, (B, G, 1, …): the half of its key that the next key takes over."""
        self.queried = 0
        """Tokens that have attended with this cache in cross-attention: the position of the next one."""

    @property
    def content(self) -> KeysValues:
        """Keys and values of all tokens so far; the cache must not be empty."""
        assert self._buffer is not None
        return self._buffer.first(self.length)

    def advance(self, tokens: int) -> int:
        """Count new queries and return the position of the first of them."""
        first, self.queried = self.queried, self.queried + tokens
        return first

    def append(self, new: KeysValues) -> KeysValues:
        """Add the new tokens' keys and values and return all of them."""
        length = self.length + new.keys.shape[2]
        if self._buffer is None:
            self._buffer = new.empty(length)
        elif length > self._buffer.keys.shape[2]:
            buffer = new.empty(max(length, 2 * self.length))
            buffer.write(0, self.content)
            self._buffer = buffer
        self._buffer.write(self.length, new)
        self.length = length
        return self.content

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        if self._buffer is not None:
            keys, values = self._buffer
            chosen = keys[rows]
            self._buffer = KeysValues(chosen, chosen if self._buffer.shared else values[rows])
        if self.tail is not None:
            self.tail = self.tail[rows]

    @property
    def bytes(self) -> int:
        """Bytes that the tokens take; a tensor that serves as keys and values counts once."""
        if self._buffer is None:
            return 0
        content = self.content
        return content.keys.nbytes + (0 if content.shared else content.values.nbytes)


class DecoderCache:
    """The caches of a decoder's layers; layers that share keys and values share one."""

    def __init__(self) -> None:
        self.self_attention: dict[int, KeyValueCache] = {}
        self.cross_attention: dict[int, KeyValueCache] = {}

    def layer(self, layer: int, group: int) -> tuple[KeyValueCache | None, KeyValueCache]:
        """The self- and cross-attention caches of a layer; a layer without its own keys and values has no
        self-attention cache."""
        own = self.self_attention.setdefault(layer, KeyValueCache()) if layer % group == 0 else None
        return own, self.cross_attention.setdefault(layer, KeyValueCache())

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order (beam search)."""
        for cache in (*self.self_attention.values(), *self.cross_attention.values()):
            cache.reorder(rows)

    @property
    def length(self) -> int:
        """Tokens decoded so far."""
        return self.self_attention[0].length if self.self_attention else 0

    @property
    def bytes(self) -> int:
        """Bytes held for self-attention: the part that grows with every token."""
        return sum(cache.bytes for cache in self.self_attention.values())
