"""A classification set that the user brings as NumPy arrays."""

from pathlib import Path
from typing import Any

import numpy as np

from kvformer.data.facts import image_facts
from kvformer.data.listing import list_files
from kvformer.data.raw import RawFiles
from kvformer.errors import DataError
from kvformer.records.manifest import ManifestWriter


def build_arrays(raw: RawFiles, writer: ManifestWriter) -> dict[str, Any]:
    """Files train_images.npy or train_features.npy, train_labels.npy, and the same for test; validation is optional.

    Images are (N, H, W) or (N, H, W, 3) uint8, features (N, D) of any float type (stored as float32), labels (N,)
    integers from 0. Raises DataError, naming the file, for anything else.
    """
    kind, splits = _contents(raw.location)
    check = _check_features if kind == "features" else _check_images
    train = _load(raw.location / f"train_{kind}.npy")
    classes = 0
    for split in splits:
        items_file, labels_file = (raw.location / f"{split}_{part}.npy" for part in (kind, "labels"))
        items, labels = _load(items_file), _load(labels_file)
        check(items_file, items)
        _check_labels(labels_file, labels, len(items))
        if split == "train":
            classes = int(labels.max()) + 1
        elif labels.max() >= classes:
            raise DataError(f"{labels_file}: label {labels.max()} does not occur in train")
        if items.shape[1:] != train.shape[1:]:
            raise DataError(f"{items_file}: items of shape {items.shape[1:]}, train has {train.shape[1:]}")
        writer.save(f"{split}_{kind}", _as_float32(items_file, items) if kind == "features" else items)
        writer.save(f"{split}_labels", labels.astype(np.min_scalar_type(classes - 1)))
    class_names = [str(label) for label in range(classes)]
    if kind == "images":
        return image_facts(train, class_names)
    return {"classes": classes, "class_names": class_names, "features": train.shape[1]}


def passed_over(location: Path) -> list[str]:
    """Names of the files that are not used. Raises DataError for a missing one."""
    kind, splits = _contents(location)
    used = [f"{split}_{part}.npy" for split in splits for part in (kind, "labels")]
    listing = list_files(location)
    for name in used:
        if name not in listing.files:
            raise DataError(f"{location / name}: missing")
    return [*(name for name in listing.files if name not in used), *listing.passed_over]


def _contents(location: Path) -> tuple[str, list[str]]:
    """Whether the set has images or features, and its splits."""
    kind = "features" if (location / "train_features.npy").exists() else "images"
    validation = any((location / f"validation_{part}.npy").exists() for part in (kind, "labels"))
    return kind, ["train", "test", *(["validation"] if validation else [])]


def _load(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except Exception as error:  # a damaged header can raise anything
        raise DataError(f"{path}: not a NumPy array file ({error})") from None
    if not array.size:
        raise DataError(f"{path}: an empty array")
    return array


def _check_images(path: Path, images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        scale = "" if images.dtype == np.uint8 else "; scale its values to 0 … 255"
        raise DataError(f"{path}: {images.dtype} {images.shape}, must be uint8 (N, H, W) or (N, H, W, 3){scale}")


def _check_features(path: Path, features: np.ndarray) -> None:
    if features.dtype.kind != "f" or features.ndim != 2:
        raise DataError(f"{path}: {features.dtype} {features.shape}, must be floats (N, D)")
    if not np.isfinite(features).all():
        raise DataError(f"{path}: contains NaN or infinity")


def _as_float32(path: Path, features: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        single = features.astype(np.float32)
    if not np.isfinite(single).all():
        raise DataError(f"{path}: a value beyond the range of float32, which is ±{np.finfo(np.float32).max:.2g}")
    return single


def _check_labels(path: Path, labels: np.ndarray, items: int) -> None:
    if labels.dtype.kind not in "iu" or labels.shape != (items,):
        raise DataError(f"{path}: {labels.dtype} {labels.shape}, must be integers ({items},)")
    if labels.min() < 0:
        raise DataError(f"{path}: label {labels.min()} is negative")
    if labels.max() >= items:
        raise DataError(f"{path}: label {labels.max()}, but {items} items cannot have more than {items} classes")
