"""Image features for set anomaly detection: a frozen ResNet-34, or principal components."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from kvformer.data.raw import RawFiles
from kvformer.records.manifest import Manifest, ManifestWriter

WEIGHTS = "resnet34-b627a593.pth"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_resnet34(
    raw: RawFiles, writer: ManifestWriter, images: str = "cifar100", digest: str | None = "b627a593", size: int = 224
) -> dict[str, Any]:
    """train_features (N, 512) float32, train_labels (N,), test_features, test_labels of the prepared set `images`.

    Images are resized to `size` (bilinear), normalised as for ImageNet, and go through a ResNet-34 with torchvision's
    ImageNet weights up to the average pool. `digest` is the beginning of the SHA-256 of the weights: torchvision
    publishes the first eight digits, in the file name. Uses a GPU where there is one; on two CPU cores it takes hours.
    """
    import torch
    from torch.nn.functional import interpolate
    from torchvision.models import resnet34

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = resnet34()
    network.load_state_dict(torch.load(io.BytesIO(raw.read(WEIGHTS, digest=digest)), weights_only=True))
    network.fc = torch.nn.Identity()
    network.eval().to(device)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    @torch.inference_mode()
    def features(pixels: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
        batch = interpolate(batch, size=(size, size), mode="bilinear", align_corners=False)
        result: np.ndarray = network((batch - mean) / std).cpu().numpy()
        return result

    return _save_features(raw.prepared[images], writer, features, width=512, batch=128)


def build_pca(raw: RawFiles, writer: ManifestWriter, images: str, components: int = 512) -> dict[str, Any]:
    """As build_resnet34, but the features (N, components) are the leading principal components of the pixels.

    Mean and components are those of the train split. Features are rounded to 1/1024 (pixels are in [0, 1]), so the
    result does not depend on the linear algebra library or its threads.
    """
    manifest = raw.prepared[images]
    mean, basis, explained = principal_components(_flat(manifest.array("train_images")), components)

    def features(pixels: np.ndarray) -> np.ndarray:
        rounded: np.ndarray = np.rint((_flat(pixels) - mean) @ basis / 255 * 1024) / 1024
        return rounded

    facts = _save_features(manifest, writer, features, components, batch=10_000)
    return facts | {"explained_variance": round(explained, 4)}


def principal_components(data: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (D,), basis (D, components) by falling variance, and the share of variance explained, of `data` (N, D).

    The entry of largest magnitude is positive in every component. `data` must be integers, so that the sums are exact
    in float64, in any order.
    """
    mean = data.sum(0) / len(data)
    covariance = data.T @ data / len(data) - np.outer(mean, mean)
    variances, basis = np.linalg.eigh(covariance)
    basis = basis[:, ::-1][:, :components]
    largest = np.abs(basis).argmax(0)
    basis = basis * np.sign(basis[largest, np.arange(basis.shape[1])])
    return mean, basis, float(variances[::-1][:components].sum() / variances.sum())


def _flat(images: np.ndarray) -> np.ndarray:
    """(N, H, W, …) uint8 as (N, D) float64."""
    return np.asarray(images.reshape(len(images), -1), dtype=np.float64)


def _save_features(
    images: Manifest, writer: ManifestWriter, features: Callable[[np.ndarray], np.ndarray], width: int, batch: int
) -> dict[str, Any]:
    """Store the features (N, width) of all images, computed from `batch` images at a time, and return the facts."""
    for split in ("train", "test"):
        pixels = images.array(f"{split}_images")
        target = writer.create(f"{split}_features", (len(pixels), width), np.float32)
        for start in range(0, len(pixels), batch):
            target[start : start + batch] = features(np.array(pixels[start : start + batch]))
        target.flush()
        writer.save(f"{split}_labels", images.array(f"{split}_labels"))
    return {"classes": images.facts["classes"], "class_names": images.facts["class_names"], "features": width}
