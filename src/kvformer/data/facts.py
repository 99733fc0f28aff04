"""What the manifest of an image set says of its images."""

from typing import Any

import numpy as np


def image_facts(train_images: np.ndarray, class_names: list[str]) -> dict[str, Any]:
    """Classes, shape of one image, and mean and standard deviation of each channel of (N, H, W) or (N, H, W, C) uint8.

    Mean and deviation are those of pixels in [0, 1] over the whole train split, from exact counts of the 256 levels.
    """
    channels = train_images.shape[3] if train_images.ndim == 4 else 1
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(train_images), 10_000):
        pixels = train_images[start : start + 10_000].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel], minlength=256)
    levels = np.arange(256)
    highest = int(levels[counts.any(axis=0)].max())
    if highest < 64:
        print(f"the images use only the levels 0 to {highest} of 255; do the files hold fewer bits than they could?")
    total = counts.sum(1)
    mean = counts @ levels / total
    deviation = np.sqrt(counts @ levels**2 / total - mean**2)
    return {
        "classes": len(class_names),
        "class_names": class_names,
        "image_shape": list(train_images.shape[1:]),
        "mean": [round(float(value), 6) for value in mean / 255],
        "std": [round(float(value), 6) for value in deviation / 255],
    }
