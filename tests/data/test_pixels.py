"""Images of every mode become RGB without loss, or are refused by name."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvformer.data.images import build_imagefolder
from kvformer.data.pixels import rgb
from kvformer.data.raw import RawFiles
from kvformer.errors import DataError
from kvformer.records.manifest import Manifest

Raw, Build = Callable[[Path], RawFiles], Callable[..., Manifest]
LEVELS = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def reread(image: Image.Image, suffix: str = "PNG", **options: object) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, suffix, **options)
    return Image.open(io.BytesIO(stream.getvalue()))


def pgm(levels: np.ndarray, highest: int) -> Image.Image:
    return Image.open(io.BytesIO(b"P5 8 8 %d\n" % highest + levels.astype(">u2").tobytes()))


@pytest.mark.parametrize("suffix", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_keeps_every_level_of_8_bits(suffix: str) -> None:
    wide = Image.fromarray(LEVELS.astype(np.uint16) * 257)
    image = pgm(LEVELS.astype(np.uint16) * 257, 65535) if suffix == "PPM" else reread(wide, suffix)
    assert (np.asarray(rgb(image)) == LEVELS[..., None]).all()


def test_16_bit_levels_become_the_nearest_of_8_bits() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(levels / 65535 * 255).astype(np.uint8)
    assert (np.asarray(rgb(reread(Image.fromarray(levels)))) == expected[..., None]).all()


def test_12_bit_grey_is_scaled_by_its_own_range() -> None:
    assert np.asarray(rgb(pgm(np.full((8, 8), 4095), 4095))).min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_what_rgb_can_hold_is_kept(mode: str) -> None:
    image = Image.fromarray(LEVELS).convert(mode, dither=Image.Dither.NONE)
    expected = np.asarray(image.convert("RGB"))
    assert len(np.unique(expected)) > (1 if mode == "1" else 32)
    assert (np.asarray(rgb(reread(image))) == expected).all()


def with_alpha(mode: str) -> Image.Image:
    image = Image.fromarray(LEVELS).convert(mode)
    alpha = np.full((8, 8), 255, dtype=np.uint8)
    alpha[0, 0] = 254
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize(
    "image",
    [
        reread(with_alpha("LA")),
        reread(with_alpha("RGBA")),
        reread(Image.fromarray(LEVELS).convert("P"), transparency=8),
        reread(Image.fromarray(LEVELS), transparency=8),
        reread(Image.fromarray(LEVELS).convert("RGB"), transparency=(8, 8, 8)),
        reread(Image.fromarray(LEVELS.astype(np.uint16)), transparency=8),
    ],
    ids=["LA", "RGBA", "P", "L with a transparent level", "RGB with a transparent colour", "16 bits"],
)
def test_transparent_pixels_are_refused(image: Image.Image) -> None:
    with pytest.raises(DataError, match="has transparent pixels"):
        rgb(image)


@pytest.mark.parametrize("mode", ["I", "F", "CMYK", "YCbCr", "LAB", "HSV"])
def test_modes_that_rgb_cannot_hold_are_refused(mode: str) -> None:
    with pytest.raises(DataError, match=rf"Pillow's mode {mode}, which RGB cannot hold without loss"):
        rgb(Image.new(mode, (8, 8)))


@pytest.mark.parametrize("suffix", ["GIF", "TIFF", "PNG"])
def test_several_frames_are_refused(suffix: str) -> None:
    frames = [Image.fromarray(LEVELS + shift) for shift in (0, 1)]
    with pytest.raises(DataError, match=r"2 frames, must be one"):
        rgb(reread(frames[0], suffix, save_all=True, append_images=frames[1:]))


def test_a_set_of_16_bit_images_has_their_levels(raw: Raw, build: Build, image_tree: Path) -> None:
    for path in image_tree.rglob("*.png"):
        Image.fromarray(LEVELS.astype(np.uint16) * 257).save(path)
    images = build(build_imagefolder, raw(image_tree)).array("train_images")
    assert (images == LEVELS[..., None]).all()


def test_a_refused_image_is_named(raw: Raw, build: Build, image_tree: Path) -> None:
    Image.new("CMYK", (8, 8)).save(image_tree / "train" / "cat" / "9.jpg")
    with pytest.raises(DataError, match=r"pets/train/cat/9.jpg: Pillow's mode CMYK"):
        build(build_imagefolder, raw(image_tree))


def test_images_that_use_few_levels_are_told(
    raw: Raw, build: Build, image_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in image_tree.rglob("*.png"):
        Image.fromarray(LEVELS.astype(np.uint16) * 16).save(path)  # 12 bits in files of 16
    build(build_imagefolder, raw(image_tree))
    assert "the images use only the levels 0 to 16 of 255" in capsys.readouterr().out
