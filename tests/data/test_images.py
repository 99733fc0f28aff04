"""Trees of image files, in folders and zip files, and the errors of malformed ones."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kvformer.data.images import build_imagefolder
from kvformer.data.raw import RawFiles
from kvformer.errors import DataError
from kvformer.records.manifest import Manifest

Raw, Build, Image = Callable[[Path], RawFiles], Callable[..., Manifest], Callable[..., bytes]


def test_images_are_counted_by_class(raw: Raw, build: Build, image_tree: Path) -> None:
    manifest = build(build_imagefolder, raw(image_tree))
    assert manifest.array("train_images").shape == (6, 8, 8, 3)
    assert np.bincount(manifest.array("train_labels")).tolist() == [3, 3]
    assert np.bincount(manifest.array("test_labels")).tolist() == [2, 2]
    assert manifest.facts["class_names"] == ["cat", "dog"]


def test_every_image_keeps_its_label(raw: Raw, build: Build, image_tree: Path) -> None:
    from PIL import Image as Pillow

    manifest = build(build_imagefolder, raw(image_tree))
    expected = {
        np.asarray(Pillow.open(path)).tobytes(): ["cat", "dog"].index(path.parent.name)
        for path in (image_tree / "train").rglob("*.png")
    }
    found = zip(manifest.array("train_images"), manifest.array("train_labels"), strict=True)
    assert {image.tobytes(): int(label) for image, label in found} == expected


def test_the_first_images_are_not_all_of_one_class(raw: Raw, build: Build, image_bytes: Image, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for index in range(30):
                (folder / f"{index}.png").write_bytes(image_bytes(index, (2, 2)))
    labels = build(build_imagefolder, raw(tmp_path / "pets")).array("test_labels")
    assert 5 <= labels[:20].sum() <= 15


@pytest.mark.parametrize("place", ["as a zip file", "as a zip file in the folder", "below another folder"])
def test_the_same_tree_elsewhere_gives_the_same_set(
    raw: Raw, build: Build, image_tree: Path, tmp_path: Path, place: str
) -> None:
    reference = build(build_imagefolder, raw(image_tree)).sha256
    shutil.rmtree(tmp_path / "built")
    location = tmp_path / "elsewhere"
    if place == "below another folder":
        shutil.copytree(image_tree, location / "pets-v1")
    else:
        archive = Path(shutil.make_archive(str(location / "pets"), "zip", image_tree.parent, image_tree.name))
        location = archive if place == "as a zip file" else location
    assert build(build_imagefolder, raw(location)).sha256 == reference


def test_without_test_the_validation_images_take_its_place(raw: Raw, build: Build, image_tree: Path) -> None:
    (image_tree / "test").rename(image_tree / "val")
    manifest = build(build_imagefolder, raw(image_tree))
    assert manifest.array("test_images").shape == (4, 8, 8, 3)
    assert "validation_images" not in manifest.files


def test_with_both_there_is_a_validation_split(raw: Raw, build: Build, image_tree: Path) -> None:
    shutil.copytree(image_tree / "test", image_tree / "val")
    manifest = build(build_imagefolder, raw(image_tree))
    np.testing.assert_array_equal(manifest.array("validation_images"), manifest.array("test_images"))


def test_images_are_resized_to_a_square(raw: Raw, build: Build, image_tree: Path, image_bytes: Image) -> None:
    (image_tree / "train" / "cat" / "0.png").write_bytes(image_bytes(0, (20, 10)))
    (image_tree / "train" / "cat" / "1.png").write_bytes(image_bytes(1, (9, 9), mode="L"))
    manifest = build(build_imagefolder, raw(image_tree), size=4)
    assert manifest.array("train_images").shape == (6, 4, 4, 3)
    assert manifest.facts["image_shape"] == [4, 4, 3]


def test_resizing_keeps_the_centre(raw: Raw, build: Build, image_tree: Path) -> None:
    from PIL import Image as Pillow

    wide = np.zeros((8, 16, 3), dtype=np.uint8)
    wide[:, 4:12] = 200  # the central square
    for path in image_tree.rglob("*.png"):
        Pillow.fromarray(wide).save(path)
    assert (build(build_imagefolder, raw(image_tree), size=8).array("train_images") == 200).all()


def test_sizes_must_agree_without_a_given_size(raw: Raw, build: Build, image_tree: Path, image_bytes: Image) -> None:
    (image_tree / "train" / "cat" / "0.png").write_bytes(image_bytes(0, (9, 8)))
    with pytest.raises(DataError, match=r"pets/train/cat/\d.png: .* pixels, must be .*; or name a size, as in @64"):
        build(build_imagefolder, raw(image_tree))


def test_tiny_imagenet_layout(raw: Raw, build: Build, image_bytes: Image, tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    for name in ("n01", "n02"):
        (root / "train" / name / "images").mkdir(parents=True)
        (root / "train" / name / f"{name}_boxes.txt").write_text("boxes")
        (root / "train" / name / "images" / f"{name}_0.JPEG").write_bytes(image_bytes(int(name[1:]), suffix="JPEG"))
    for split in ("val", "test"):
        (root / split / "images").mkdir(parents=True)
        for index in range(3):
            (root / split / "images" / f"{split}_{index}.JPEG").write_bytes(image_bytes(index, suffix="JPEG"))
    lines = [f"val_{index}.JPEG\t{name}\t0\t0\t9\t9" for index, name in enumerate(("n02", "n01", "n02"))]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    manifest = build(build_imagefolder, raw(root), size=8)
    assert manifest.facts["class_names"] == ["n01", "n02"]
    assert np.bincount(manifest.array("test_labels")).tolist() == [1, 2]
    assert len(manifest.array("train_labels")) == 2


def test_a_missing_class_folder_is_named(raw: Raw, build: Build, image_tree: Path) -> None:
    shutil.rmtree(image_tree / "test" / "dog")
    with pytest.raises(DataError, match=r"pets: class 'dog' has images in train/ but none in test/"):
        build(build_imagefolder, raw(image_tree))


def test_an_empty_class_folder_is_named(raw: Raw, build: Build, image_tree: Path) -> None:
    for path in (image_tree / "train" / "cat").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"pets: class 'cat' has images in test/ but none in train/"):
        build(build_imagefolder, raw(image_tree))


def test_a_missing_class_of_a_known_set_is_named(raw: Raw, build: Build, image_tree: Path) -> None:
    expected = {"train": {"cat": 3, "dog": 3}, "test": {"cat": 2, "dog": 3}}
    with pytest.raises(DataError, match=r"pets: 2 images in test/dog/, expected 3"):
        build(build_imagefolder, raw(image_tree), expected=expected)


def test_a_missing_split_is_reported(raw: Raw, build: Build, image_tree: Path) -> None:
    shutil.rmtree(image_tree / "test")
    with pytest.raises(DataError, match=r"pets: no images in train/<class>/ and in val/<class>/ or test/<class>/"):
        build(build_imagefolder, raw(image_tree))


def test_images_next_to_the_class_folders_are_named(raw: Raw, build: Build, image_tree: Path) -> None:
    (image_tree / "train" / "cat" / "0.png").rename(image_tree / "train" / "stray.png")
    with pytest.raises(DataError, match=r"pets/train/stray.png: an image without a class"):
        build(build_imagefolder, raw(image_tree))


@pytest.mark.parametrize("damage", ["empty", "truncated", "no image"])
def test_an_unreadable_image_is_named(raw: Raw, build: Build, image_tree: Path, damage: str) -> None:
    path = image_tree / "test" / "dog" / "1.png"
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "no image": b"hello" * 20}[damage])
    with pytest.raises(DataError, match=r"pets/test/dog/1.png: cannot be read as an image") as caught:
        build(build_imagefolder, raw(image_tree))
    assert "\n" not in str(caught.value)


def test_an_unreadable_image_in_a_zip_file_is_named(raw: Raw, build: Build, image_tree: Path, tmp_path: Path) -> None:
    (image_tree / "test" / "dog" / "1.png").write_bytes(b"hello")
    archive = shutil.make_archive(str(tmp_path / "pets"), "zip", image_tree)
    with pytest.raises(DataError, match=r"pets.zip/test/dog/1.png: cannot be read as an image"):
        build(build_imagefolder, raw(Path(archive)))


def test_a_zip_file_that_is_not_one(raw: Raw, build: Build, tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"pets.zip: cannot be opened as a zip file"):
        build(build_imagefolder, raw(tmp_path / "pets.zip"))


def test_hidden_files_are_ignored(raw: Raw, build: Build, image_tree: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in sorted(image_tree.rglob("*.png")):
            archive.write(path, path.relative_to(image_tree))
            archive.writestr(f"__MACOSX/{path.relative_to(image_tree)}", b"resource fork")
        archive.writestr("train/cat/.hidden.png", b"")
    assert len(build(build_imagefolder, raw(tmp_path / "pets.zip")).array("train_labels")) == 6
