"""Sets that the user brings as arrays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kvformer.data.arrays import build_arrays
from kvformer.data.raw import RawFiles
from kvformer.errors import DataError
from kvformer.records.manifest import Manifest

Raw, Build = Callable[[Path], RawFiles], Callable[..., Manifest]


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """A user's set as arrays: six train and four test images of three classes."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for split, count in (("train", 6), ("test", 4)):
        np.save(folder / f"{split}_images.npy", np.full((count, 5, 4), 7, dtype=np.uint8))
        np.save(folder / f"{split}_labels.npy", np.arange(count) % 3)
    return folder


def test_images_as_arrays(raw: Raw, build: Build, arrays: Path) -> None:
    manifest = build(build_arrays, raw(arrays))
    assert manifest.facts["classes"] == 3
    assert manifest.facts["image_shape"] == [5, 4]
    assert manifest.array("train_images").shape == (6, 5, 4)
    assert manifest.array("test_labels").tolist() == [0, 1, 2, 0]


def test_features_as_arrays(raw: Raw, build: Build, arrays: Path) -> None:
    for split, count in (("train", 6), ("test", 4)):
        np.save(arrays / f"{split}_features.npy", np.ones((count, 9)))
    manifest = build(build_arrays, raw(arrays))
    assert manifest.facts["features"] == 9
    assert manifest.array("train_features").dtype == np.float32
    assert "train_images" not in manifest.files


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("train_images", np.zeros((6, 5, 4)), r"float64 \(6, 5, 4\), must be uint8 \(N, H, W\)"),
        ("train_images", np.zeros((6, 5, 4, 2), dtype=np.uint8), r"uint8 \(6, 5, 4, 2\), must be uint8"),
        ("test_images", np.zeros((4, 5, 5), dtype=np.uint8), r"items of shape \(5, 5\), train has \(5, 4\)"),
        ("train_labels", np.zeros(5, dtype=int), r"int64 \(5,\), must be integers \(6,\)"),
        ("train_labels", np.zeros(6), r"float64 \(6,\), must be integers"),
        ("train_labels", np.full(6, -1), r"label -1 is negative"),
        ("test_labels", np.full(4, 3), r"label 3 does not occur in train"),
        ("test_labels", np.zeros(0, dtype=int), r"an empty array"),
    ],
)
def test_arrays_that_do_not_fit(
    raw: Raw, build: Build, arrays: Path, file: str, array: np.ndarray, message: str
) -> None:
    np.save(arrays / f"{file}.npy", array)
    with pytest.raises(DataError, match=rf"mine/{file}.npy: {message}"):
        build(build_arrays, raw(arrays))


def test_arrays_that_cannot_be_read(raw: Raw, build: Build, arrays: Path) -> None:
    np.save(arrays / "test_labels.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"mine/test_labels.npy: not a NumPy array file"):
        build(build_arrays, raw(arrays))


def test_a_missing_array_is_named(raw: Raw, build: Build, arrays: Path) -> None:
    (arrays / "test_labels.npy").unlink()
    with pytest.raises(DataError, match=r"mine/test_labels.npy: missing"):
        build(build_arrays, raw(arrays))
