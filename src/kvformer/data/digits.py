"""MNIST and Fashion-MNIST: four IDX files each."""

from typing import Any

import numpy as np

from kvformer.data.facts import image_facts
from kvformer.data.raw import RawFiles
from kvformer.errors import DataError
from kvformer.records.manifest import ManifestWriter

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

# SHA-256 of the decompressed files, in the order of FILES.
MNIST = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
FASHION_MNIST = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
DIGIT_NAMES = list("0123456789")
GARMENT_NAMES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Decode an IDX file of unsigned bytes: two zeros, type 8, the rank, a big-endian uint32 per axis, the data.

    Format: the description that accompanies MNIST (LeCun, Cortes, Burges). Raises DataError when `content` is not one.
    """
    rank = content[3] if len(content) > 3 else 0
    shape = tuple(np.frombuffer(content, dtype=">u4", count=rank, offset=4)) if len(content) >= 4 + 4 * rank else ()
    if content[:3] != b"\x00\x00\x08" or not shape or len(content) != 4 + 4 * rank + np.prod(shape, dtype=np.int64):
        raise DataError(f"{name}: not an IDX file of unsigned bytes")
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)


def build_digits(
    raw: RawFiles, writer: ManifestWriter, digests: tuple[str, ...], class_names: list[str]
) -> dict[str, Any]:
    """train_images (60000, 28, 28), train_labels (60000,), test_images (10000, 28, 28), test_labels (10000,): uint8."""
    arrays = {}
    for name, digest in zip(FILES, digests, strict=True):
        # Some mirrors, and some unpackers, write a dot for the second hyphen.
        content = raw.read(name, name.replace("-idx", ".idx"), digest=digest)
        key = f"{'train' if name.startswith('train') else 'test'}_{'images' if 'images' in name else 'labels'}"
        arrays[key] = parse_idx(content, name)
        writer.save(key, arrays[key])
    return image_facts(arrays["train_images"], class_names)
