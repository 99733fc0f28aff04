"""Images of every mode that Pillow reads as RGB: without loss, or not at all."""

from typing import TYPE_CHECKING

import numpy as np

from kvformer.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

EXACT = ("1", "L", "P", "RGB", "RGBX")
"""Modes that RGB can hold."""
WITH_ALPHA = ("LA", "PA", "RGBA", "RGBa")
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def rgb(image: "Image") -> "Image":
    """The image as RGB. Levels of 16 bits become the nearest of 8 bits, 65535 becomes 255 (PNG specification, sample
    depth scaling).

    Raises DataError, which says what would be lost, for pixels that are not opaque, for several frames, and for modes
    with more values or other colours than RGB can hold.
    """
    from PIL import Image

    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # the other pictures of an MPO file are previews
        raise DataError(f"{image.n_frames} frames, must be one")  # type: ignore[attr-defined]
    if image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in ("PNG", "PPM")):
        if "transparency" in image.info:
            raise DataError("has transparent pixels, which RGB cannot hold; put it on a background")
        levels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode not in EXACT + WITH_ALPHA:
        raise DataError(f"Pillow's mode {image.mode}, which RGB cannot hold without loss; convert it to 8-bit RGB")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        raise DataError("has transparent pixels, which RGB cannot hold; put it on a background")
    return image.convert("RGB")
