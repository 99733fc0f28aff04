"""Normalising, resizing and augmenting whole batches of images at once."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 (B, height, width) or (B, height, width, C) to float (B, C, height, width): (x / 255 - mean) / std per
    channel."""
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    scale = 1 / (255 * std)
    return images.float().contiguous().mul_(scale[:, None, None]).sub_((mean / std)[:, None, None])


def resize(images: Tensor, size: int) -> Tensor:
    """Resize (B, C, height, width) float to (B, C, size, size), bilinearly."""
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def random_flip_crop(
    images: Tensor, scale: tuple[float, float] = (0.8, 1.0), ratio: tuple[float, float] = (0.9, 1.1)
) -> Tensor:
    """Flip images (B, C, S, S) left to right with probability ½, crop each and resize it back bilinearly.

    Every image has its own parameters, drawn from torch's generator: the crop's share of the area uniform in `scale`,
    its aspect ratio log-uniform in `ratio`, its place uniform. One affine sampling grid flips, crops and resizes.
    """
    batch = len(images)
    draws = torch.rand(5, batch, device=images.device)
    area = scale[0] + (scale[1] - scale[0]) * draws[0]
    low, high = _logarithms(ratio, images.device)
    aspect = torch.exp(low + (high - low) * draws[1])
    width = torch.sqrt(area * aspect).clamp_(max=1.0)
    height = torch.sqrt(area / aspect).clamp_(max=1.0)
    flip = torch.where(draws[2] < 0.5, -1.0, 1.0)
    theta = torch.zeros(batch, 2, 3, device=images.device)
    theta[:, 0, 0] = width * flip
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (1 - width) * (2 * draws[3] - 1)
    theta[:, 1, 2] = (1 - height) * (2 * draws[4] - 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


@cache
def _logarithms(values: tuple[float, ...], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Kept, because copying a number to a GPU waits for it."""
    return torch.log(torch.tensor(values, device=device)).unbind()
