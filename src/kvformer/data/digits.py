"""MNIST and Fashion-MNIST: four IDX files each."""

from typing import Any

import numpy as np

from kvformer.data.manifest import ManifestWriter
from kvformer.data.raw import RawFiles
from kvformer.errors import DataError


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Decode an IDX file of unsigned bytes: two zeros, type 8, the rank, a big-endian 32-bit integer per axis, the data.

    Format: the description that accompanies MNIST (LeCun, Cortes, Burges). Raises DataError when `content` is not one.
    """
    rank = content[3] if len(content) > 3 else 0
    shape = tuple(np.frombuffer(content, dtype=">u4", count=rank, offset=4)) if len(content) >= 4 + 4 * rank else ()
    if content[:3] != b"\x00\x00\x08" or not shape or len(content) != 4 + 4 * rank + np.prod(shape, dtype=np.int64):
        raise DataError(f"{name}: not an IDX file of unsigned bytes")
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)


def build_digits(
    raw: RawFiles, writer: ManifestWriter, digests: dict[str, str], class_names: list[str]
) -> dict[str, Any]:
    """train_images (60000, 28, 28), train_labels (60000,), test_images (10000, 28, 28), test_labels (10000,): uint8."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        for key, suffix in (("images", "images-idx3-ubyte"), ("labels", "labels-idx1-ubyte")):
            name = f"{prefix}-{suffix}"
            # some mirrors, and hurried unpackers, write a dot for the second hyphen
            content = raw.read(name, name.replace("-idx", ".idx"), digest=digests[name])
            writer.save(f"{split}_{key}", parse_idx(content, name))
    return {"classes": len(class_names), "class_names": class_names, "image_shape": [28, 28]}
