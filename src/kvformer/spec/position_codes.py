"""Fixed sinusoidal codes: of one position, and of pairs of positions (the code behind kv_pos)."""

import math

import numpy as np


def sinusoids(length: int, channels: int, halves: bool = False) -> np.ndarray:
    """Sines and cosines of positions 0 … length-1 with frequencies 10000^(-2t/channels), (length, channels) float32.

    Sine and cosine are interleaved, or (halves) all sines come before all cosines. Formula: Vaswani et al. 2017,
    section 3.5.
    """
    frequencies = 10_000.0 ** (-2 * np.arange(math.ceil(channels / 2)) / channels)
    angles = np.arange(length)[:, None] * frequencies
    if halves:
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :channels].astype(np.float32)
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(length, -1)[:, :channels].astype(np.float32)


def row_channels(channels: int) -> int:
    """How many of the m channels of the 2D code depend on the row (the query's position): 2·ceil(m/4)."""
    return 2 * math.ceil(channels / 4)


def column_code(length: int, channels: int) -> np.ndarray:
    """The channels of the 2D code that depend on the column (the key's position), (length, m - row channels)
    float32."""
    rows = row_channels(channels)
    return sinusoids(length, rows)[:, : channels - rows]


def code_2d(length: int, channels: int) -> np.ndarray:
    """The whole 2D code P, (length, length, m) float32: row channels first, then column channels, cut to m."""
    rows = np.broadcast_to(
        sinusoids(length, row_channels(channels))[:, None, :], (length, length, row_channels(channels))
    )
    columns = column_code(length, channels)
    return np.concatenate([rows, np.broadcast_to(columns[None], (length, *columns.shape))], axis=2)
