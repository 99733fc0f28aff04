"""What a decoder keeps of the tokens that it has already seen."""

from typing import NamedTuple

from torch import Tensor


class KeysValues(NamedTuple):
    """Keys and values of one attention layer, (B, G, M, h) each; `values is keys` where one map makes both."""

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
        """Room for as many tokens, of the same sizes otherwise."""
        keys, values = (part.new_empty(*part.shape[:2], tokens, part.shape[3]) for part in self)
        return KeysValues(keys, keys if self.shared else values)

    def write(self, start: int, new: "KeysValues") -> None:
        """Copy the tokens of `new` to the places from `start` on."""
        for room, part in zip(self, new, strict=True):
            room[:, :, start : start + part.shape[2]] = part
            if self.shared:
                break


class KeyValueCache:
    """Keys and values of the tokens that a decoder has already seen, for one attention layer that owns them.

    They stand in tensors with room to spare, which double when they are full: a new token is written, the others are
    not copied.
    """

    def __init__(self) -> None:
        self._room: KeysValues | None = None
        self.length = 0
        """Tokens in the cache."""
        self.queried = 0
        """Tokens that have attended with this cache: the position of the next one, also in cross-attention."""

    @property
    def content(self) -> KeysValues:
        """Keys and values of all tokens so far; the cache must not be empty."""
        assert self._room is not None
        return self._room.first(self.length)

    def append(self, new: KeysValues) -> KeysValues:
        """Add the new tokens' keys and values and return all of them."""
        length = self.length + new.keys.shape[2]
        if self._room is None:
            self._room = new.empty(length)
        elif length > self._room.keys.shape[2]:
            room = new.empty(max(length, 2 * self.length))
            room.write(0, self.content)
            self._room = room
        self._room.write(self.length, new)
        self.length = length
        return self.content

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        if self._room is not None:
            keys, values = self._room
            chosen = keys[rows]
            self._room = KeysValues(chosen, chosen if self._room.shared else values[rows])

    @property
    def bytes(self) -> int:
        """Bytes that the tokens take; a tensor that serves as keys and values counts once."""
        if self._room is None:
            return 0
        keys, values = self.content
        return keys.nbytes if values is keys else keys.nbytes + values.nbytes
