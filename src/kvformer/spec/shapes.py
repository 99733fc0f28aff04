"""Sizes that a model takes from its task."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Sizes that fix a model's ends.

    length: tokens of the longest sequence. inputs: input symbols, channels or features. outputs: classes or symbols.
    image: (channels, height, width) and patch: side of a patch, for vision. target_inputs: symbols of the decoder's
        language in translation.
    """

    length: int
    inputs: int
    outputs: int
    image: tuple[int, int, int] | None = None
    patch: int | None = None
    target_inputs: int | None = None
