"""Image classification sets in ImageFolder layout, in a folder or a zip file."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kvformer.data.facts import image_facts
from kvformer.data.listing import is_clutter, list_files, summary
from kvformer.data.pixels import rgb
from kvformer.data.raw import RawFiles, archives_in, zip_names
from kvformer.errors import DataError
from kvformer.files import sha256_bytes
from kvformer.records.manifest import ManifestWriter

SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True)
class ImageTree:
    """Image files of a folder or zip file, by split and class; class folders without one; and what is passed over."""

    origin: Path
    splits: dict[str, dict[str, list[str]]]
    read: Callable[[str], bytes]
    empty: list[str]
    passed_over: list[str]

    def classes(self) -> list[str]:
        """The classes of the train split. Raises DataError unless every split has images of exactly these classes, and
        every class folder an image."""
        if "train" not in self.splits or len(self.splits) < 2:
            others = f"; passed over: {summary(self.passed_over)}" if self.passed_over else ""
            raise DataError(f"{self.origin}: no images in train/<class>/ and in val/<class>/ or test/<class>/{others}")
        classes = sorted(self.splits["train"])
        for split, members in self.splits.items():
            for name in sorted(set(classes) ^ set(members)):
                here, there = (split, "train") if name in classes else ("train", split)
                raise DataError(f"{self.origin}: class {name!r} has images in {there}/ but none in {here}/")
        if self.empty:
            known = ", ".join(sorted(SUFFIXES))
            raise DataError(f"{self.origin}/{self.empty[0]}: a class folder without an image; images end in {known}")
        return classes

    def images(self, split: str) -> list[tuple[int, str]]:
        """(label, file name) of each image of `split`, sorted by the SHA-256 of class and file name.

        This order is fixed and mixes the classes, so that the first n images are a fair sample.
        """
        entries = [(label, file) for label, name in enumerate(self.classes()) for file in self.splits[split][name]]
        return sorted(entries, key=lambda entry: sha256_bytes("/".join(PurePosixPath(entry[1]).parts[-2:]).encode()))


def open_tree(location: Path) -> ImageTree:
    """Find the image tree in a folder, a zip file, or a folder with one zip file in it.

    The layout is SPLIT/CLASS/…/IMAGE at any depth, with SPLIT train, val, valid, validation or test; or that of the
    Tiny ImageNet archive, where val/val_annotations.txt has the labels of val/images and the test split has none.
    """
    others: list[str] = []
    if location.is_dir():
        listing = list_files(location)
        names = sorted([*listing.files, *listing.folders])
        tree = _sort_into_splits(location, names, lambda name: (location / name).read_bytes(), listing.passed_over)
        zips = [path for path in archives_in(location) if path.suffix == ".zip" and path.name in listing.files]
        if tree.splits or len(zips) != 1:
            return tree
        location, others = zips[0], [name for name in tree.passed_over if name != zips[0].name]
    try:
        archive = zipfile.ZipFile(location)
    except Exception as error:  # a damaged archive can raise anything
        raise DataError(f"{location}: cannot be opened as a zip file ({error})") from None
    return _sort_into_splits(location, zip_names(location, archive), archive.read, others)


def _sort_into_splits(origin: Path, names: list[str], read: Callable[[str], bytes], others: list[str]) -> ImageTree:
    """The tree of the files `names`; those of folders end in a slash. others: what is passed over already."""
    annotations = next((name for name in names if name.endswith("val/val_annotations.txt")), None)
    annotated = {} if annotations is None else _annotated(origin, annotations, read)
    splits: dict[str, dict[str, list[str]]] = {}
    class_folders: dict[str, tuple[str, str]] = {}
    others = [*others]
    for name in names:
        *folders, file = [*PurePosixPath(name).parts, *([""] if name.endswith("/") else [])]
        if any(map(is_clutter, (*folders, file))) or name == annotations:
            continue
        at = next((i for i, folder in enumerate(folders) if folder in SPLITS), None)
        if at is None or any(part.startswith(".") for part in (*folders, file)):
            others += [name] if file else []
            continue
        split, inner = SPLITS[folders[at]], folders[at + 1 :]
        if inner and not (annotated and split != "train"):
            class_folders["/".join(folders[: at + 2])] = split, inner[0]
        if PurePosixPath(file).suffix.lower() not in SUFFIXES or (annotated and split == "test"):
            others += [name] if file else []
            continue
        category = annotated.get(file) if annotated and split == "validation" else "".join(inner[:1])
        if not category:
            raise DataError(f"{origin}/{name}: an image without a class; the layout is {folders[at]}/<class>/<image>")
        splits.setdefault(split, {}).setdefault(category, []).append(name)
    empty = [folder for folder, (split, name) in class_folders.items() if name not in splits.get(split, {})]
    return ImageTree(origin, splits, read, empty, others)


def _annotated(origin: Path, name: str, read: Callable[[str], bytes]) -> dict[str, str]:
    """The class of each validation image of Tiny ImageNet, by file name."""
    try:
        return dict(line.split("\t")[:2] for line in read(name).decode().replace("\r\n", "\n").split("\n") if line)
    except Exception as error:  # a damaged text or archive can raise anything
        raise DataError(f"{origin}/{name}: cannot be read as lines of image and class ({error})") from None


def passed_over(location: Path) -> list[str]:
    """Names of the files that are not used. Raises DataError for a tree that has no classes."""
    tree = open_tree(location)
    tree.classes()
    return tree.passed_over


def build_imagefolder(
    raw: RawFiles, writer: ManifestWriter, size: int | None = None, expected: dict[str, dict[str, int]] | None = None
) -> dict[str, Any]:
    """train_images (N, size, size, 3) uint8, train_labels (N,) uint8 or uint16, test_images and test_labels likewise.

    Images become RGB without loss (see `rgb`); with a `size` they are cropped to the central square and resized
    (bicubic), without one they must all be squares of one size. Without test/ the images of val/ are the test split;
    with both there is also validation_images. `expected` gives the number of images by split and class.
    """
    tree = open_tree(raw.location)
    classes = tree.classes()
    for split, counts in (expected or {}).items():
        for name, count in counts.items():
            found = len(tree.splits.get(split, {}).get(name, []))
            if found != count:
                raise DataError(f"{tree.origin}: {found} images in {split}/{name}/, expected {count}")
    side = size or len(_pixels(tree, tree.images("train")[0][1], None, crop=False))
    images: dict[str, np.ndarray] = {}
    for split in tree.splits:
        target = "test" if "test" not in tree.splits and split == "validation" else split
        entries = tree.images(split)
        images[target] = writer.create(f"{target}_images", (len(entries), side, side, 3), np.uint8)
        for index, (_, name) in enumerate(entries):
            images[target][index] = _pixels(tree, name, side, crop=size is not None)
        labels = [label for label, _ in entries]
        writer.save(f"{target}_labels", np.array(labels, dtype=np.uint8 if len(classes) <= 256 else np.uint16))
    return image_facts(images["train"], classes)


def _pixels(tree: ImageTree, name: str, side: int | None, crop: bool) -> np.ndarray:
    """The image as (side, side, 3) uint8, with its own width as the default of `side`.

    Raises DataError where it has another size, unless `crop` allows to change it.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(tree.read(name))) as opened:
            image = rgb(opened)
    except DataError as error:
        raise DataError(f"{tree.origin}/{name}: {error}") from None
    except Exception as error:  # a damaged image or archive can raise anything
        raise DataError(f"{tree.origin}/{name}: cannot be read as an image ({error})") from None
    side = side or image.width
    if image.size != (side, side):
        if not crop:
            found, expected = f"{image.width} x {image.height}", f"{side} x {side}"
            raise DataError(f"{tree.origin}/{name}: {found} pixels, must be {expected}; or name a size, as in @64")
        image = ImageOps.fit(image, (side, side))
    return np.asarray(image)
