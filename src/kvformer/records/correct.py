"""`correct.json`: which examples a run got right, to tell the error of a finite test set from that of seeds."""

import io
import zlib
from base64 import b64decode, b64encode
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kvformer.errors import DataError
from kvformer.records.base import FileRecord

Counts = NDArray[np.int64]


class Correct(FileRecord):
    """How many positions of each example of the reported split a run got right. Only of tasks judged by accuracy.

    examples: SHA-256 of the examples: runs with an equal one were tested on the same ones.
    right, scored: per example, the positions that are right and those that count (1 and 1 for an image; a list has one
        for each of its symbols), as `pack` writes them. Σ right / Σ scored is the accuracy that the run reports.
    """

    split: str
    examples: str
    right: str
    scored: str

    @classmethod
    def of(cls, split: str, examples: str, right: Counts, scored: Counts) -> Self:
        """The record of these counts."""
        return cls(split=split, examples=examples, right=pack(right), scored=pack(scored))


def pack(counts: Counts) -> str:
    """Whole numbers from 0 on as text: NumPy's own format in the smallest type, compressed, in base64."""
    buffer = io.BytesIO()
    np.save(buffer, counts.astype(np.min_scalar_type(int(counts.max(initial=0)))))
    return b64encode(zlib.compress(buffer.getvalue(), 9)).decode()


def unpack(text: str) -> Counts:
    """The numbers of `pack`.

    Raises:
        DataError: the text is damaged.
    """
    try:
        counts = np.load(io.BytesIO(zlib.decompress(b64decode(text, validate=True))))
        return np.asarray(counts, dtype=np.int64)
    except (ValueError, EOFError, zlib.error) as error:
        raise DataError(f"not the packed counts of a run ({error})") from None
