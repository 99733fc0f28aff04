"""Random numbers by name: every stream is keyed by what it is for, never by what was drawn before it."""

import hashlib

import numpy as np


def seed_sequence(*names: str | int) -> np.random.SeedSequence:
    """The seed sequence of a purpose, e.g. `seed_sequence("reverse", "train", 0)`; different names give unrelated
    streams."""
    digest = hashlib.sha256("\x1f".join(str(name) for name in names).encode()).digest()
    return np.random.SeedSequence(int.from_bytes(digest[:16], "big"))


def generator(*names: str | int) -> np.random.Generator:
    """A NumPy generator of a purpose."""
    return np.random.default_rng(seed_sequence(*names))


def integer_seed(*names: str | int) -> int:
    """A 63-bit seed of a purpose, for generators that take an integer."""
    return int(seed_sequence(*names).generate_state(1, np.uint64)[0] >> 1)
