"""Small real files in the formats that the sources deliver."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kvformer.data.raw import RawFiles
from kvformer.records.manifest import Manifest, ManifestWriter, load_manifest


@pytest.fixture
def raw(tmp_path: Path) -> Callable[[Path], RawFiles]:
    """Raw files at a location, with a scratch folder."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return lambda location: RawFiles(location, scratch, "test")


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Manifest]:
    """Run a builder on raw files and read back what it wrote."""

    def run(builder: Callable[..., dict], files: RawFiles, **options: object) -> Manifest:
        folder = tmp_path / "built"
        folder.mkdir()
        writer = ManifestWriter(folder)
        facts = builder(files, writer, **options)
        writer.finish("sample", "Sample", "test", "none", facts)
        return load_manifest(folder, verify=True)

    return run


@pytest.fixture
def image_bytes() -> Callable[..., bytes]:
    """An encoded image of random pixels."""

    def make(seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB", suffix: str = "PNG") -> bytes:
        from PIL import Image

        width, height = size
        shape = (height, width, 3) if mode == "RGB" else (height, width)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels, mode).save(stream, suffix)
        return stream.getvalue()

    return make


@pytest.fixture
def image_tree(tmp_path: Path, image_bytes: Callable[..., bytes]) -> Path:
    """train/ and test/ with two classes, three and two images each."""
    root = tmp_path / "pets"
    for split, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                (folder / f"{index}.png").write_bytes(image_bytes(100 * label + index + (50 if split == "test" else 0)))
    return root
