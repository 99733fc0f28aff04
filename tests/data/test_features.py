"""Anomaly features: principal components against an SVD, ResNet-34 against torchvision with random weights."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvformer.data.features import WEIGHTS, build_pca, build_resnet34, principal_components
from kvformer.data.raw import RawFiles
from kvformer.records.manifest import Manifest, ManifestWriter, load_manifest

Raw, Build = Callable[[Path], RawFiles], Callable[..., Manifest]


def prepared_images(folder: Path, shape: tuple[int, ...]) -> Manifest:
    folder.mkdir()
    random, writer = np.random.default_rng(0), ManifestWriter(folder)
    for split, count in (("train", 150), ("test", 20)):
        writer.save(f"{split}_images", random.integers(0, 256, (count, *shape), dtype=np.uint8))
        writer.save(f"{split}_labels", random.integers(0, 3, count, dtype=np.uint8))
    writer.finish("sample", "Sample", "test", "none", {"classes": 3, "class_names": ["a", "b", "c"]})
    return load_manifest(folder)


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    data = np.random.default_rng(0).integers(0, 256, (200, 12)).astype(np.float64)
    mean, basis, explained = principal_components(data, 5)
    _, singular, rows = np.linalg.svd(data - data.mean(0), full_matrices=False)
    np.testing.assert_allclose(mean, data.mean(0))
    np.testing.assert_allclose(np.abs(np.sum(basis * rows[:5].T, axis=0)), 1, rtol=1e-9)
    np.testing.assert_allclose(explained, (singular[:5] ** 2).sum() / (singular**2).sum())
    assert (basis[np.abs(basis).argmax(0), range(5)] > 0).all()


def test_pca_is_fitted_on_train_alone(raw: Raw, build: Build, tmp_path: Path) -> None:
    images = prepared_images(tmp_path / "images", (4, 4))
    files = replace(raw(tmp_path), prepared={"sample": images})
    manifest = build(build_pca, files, images="sample", components=6)
    train, test = manifest.array("train_features"), manifest.array("test_features")
    assert (train.shape, test.shape, train.dtype) == ((150, 6), (20, 6), np.float32)
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-3)
    covariance = np.cov(train.T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-3)
    assert (np.diff(np.diag(covariance)) < 0).all()
    assert np.abs(test.mean(0)).max() > 0.02
    np.testing.assert_array_equal(manifest.array("test_labels"), images.array("test_labels"))
    assert manifest.facts["features"] == 6
    assert 0 < manifest.facts["explained_variance"] < 1


@pytest.mark.slow
def test_resnet_features_are_torchvisions(raw: Raw, build: Build, tmp_path: Path) -> None:
    import torch
    from torchvision.models import ResNet34_Weights, resnet34
    from torchvision.transforms.functional import normalize, resize

    torch.manual_seed(0)
    network, stream = resnet34(), io.BytesIO()
    torch.save(network.state_dict(), stream)
    (tmp_path / WEIGHTS).write_bytes(stream.getvalue())
    images = prepared_images(tmp_path / "images", (8, 8, 3))
    files = replace(raw(tmp_path), prepared={"sample": images})
    digest = hashlib.sha256(stream.getvalue()).hexdigest()[:8]
    manifest = build(build_resnet34, files, images="sample", digest=digest, size=32)
    assert manifest.array("train_features").shape == (150, 512)

    preset = ResNet34_Weights.IMAGENET1K_V1.transforms()
    network.fc = torch.nn.Identity()
    network.eval()
    pixels = torch.from_numpy(np.array(images.array("test_images"))).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        expected = network(normalize(resize(pixels, [32, 32], antialias=False), preset.mean, preset.std))
    np.testing.assert_allclose(manifest.array("test_features"), expected.numpy(), atol=1e-4)
