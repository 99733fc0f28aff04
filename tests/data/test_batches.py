"""Sets in their original formats: MNIST's IDX files and CIFAR's pickled batches."""

import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvformer.data.cifar import ArrayUnpickler, build_cifar
from kvformer.data.digits import FILES, MNIST, build_digits, parse_idx
from kvformer.data.facts import image_facts
from kvformer.data.raw import RawFiles
from kvformer.errors import DataError
from kvformer.records.manifest import Manifest

Raw, Build = Callable[[Path], RawFiles], Callable[..., Manifest]


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_facts_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, 5, 4, 3), dtype=np.uint8)
    facts = image_facts(images, ["a", "b"])
    np.testing.assert_allclose(facts["mean"], (images / 255).mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(facts["std"], (images / 255).std((0, 1, 2)), atol=1e-6)
    assert (facts["classes"], facts["image_shape"]) == (2, [5, 4, 3])
    assert len(image_facts(images[..., 0], ["a"])["mean"]) == 1


def test_idx_files() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(parse_idx(idx(array), "x"), array)
    for content in (b"", idx(array)[:-1], idx(array) + b"\0", b"\0\0\x0d" + idx(array)[3:], b"\0\0\x08\0"):
        with pytest.raises(DataError, match=r"^x: not an IDX file of unsigned bytes$"):
            parse_idx(content, "x")


def test_digits_from_idx_files(raw: Raw, build: Build, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    contents = [idx(random.integers(0, 9, shape, dtype=np.uint8)) for shape in ((6, 28, 28), (6,), (2, 28, 28), (2,))]
    for name, content in zip(FILES, contents, strict=True):
        (tmp_path / name.replace("-idx", ".idx")).write_bytes(content)
    digests = tuple(hashlib.sha256(content).hexdigest() for content in contents)
    manifest = build(build_digits, raw(tmp_path), digests=digests, class_names=list("0123456789"))
    for key, content in zip(("train_images", "train_labels", "test_images", "test_labels"), contents, strict=True):
        np.testing.assert_array_equal(manifest.array(key), parse_idx(content, key))
    assert manifest.facts["classes"] == 10


def test_other_digits_are_not_mnist(raw: Raw, build: Build, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes(idx(np.zeros((2, 28, 28), dtype=np.uint8)))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: sha256 .* damaged, or another version"):
        build(build_digits, raw(tmp_path), digests=MNIST, class_names=list("0123456789"))


@pytest.fixture
def cifar(tmp_path: Path) -> tuple[Path, dict[str, dict[str, str]], np.ndarray]:
    """A CIFAR-like archive of two train batches and a test batch of five images, its digests, and the images."""
    images = np.random.default_rng(0).integers(0, 256, (15, 32, 32, 3), dtype=np.uint8)
    flat = images.transpose(0, 3, 1, 2).reshape(15, 3072)
    members = {
        name: pickle.dumps({"data": flat[5 * i : 5 * i + 5], "labels": [i, 1, 2, 3, 4]})
        for i, name in enumerate(("data_batch_1", "data_batch_2", "test_batch"))
    }
    members["batches.meta"] = pickle.dumps({"label_names": list("abcde")})
    folder = tmp_path / "cifar"
    folder.mkdir()
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in members.items()}
    digests = {
        "train": {name: md5[name] for name in ("data_batch_1", "data_batch_2")},
        "test": {"test_batch": md5["test_batch"]},
        "meta": {"batches.meta": md5["batches.meta"]},
    }
    return folder, digests, images


def test_cifar_batches(raw: Raw, build: Build, cifar: tuple[Path, dict[str, dict[str, str]], np.ndarray]) -> None:
    folder, digests, images = cifar
    manifest = build(build_cifar, raw(folder), digests=digests, label="label")
    np.testing.assert_array_equal(manifest.array("train_images"), images[:10])
    np.testing.assert_array_equal(manifest.array("test_images"), images[10:])
    np.testing.assert_array_equal(manifest.array("train_labels"), [0, 1, 2, 3, 4, 1, 1, 2, 3, 4])
    assert manifest.facts["class_names"] == list("abcde")


def test_a_batch_is_not_unpickled_before_its_digest_is_checked(
    raw: Raw, build: Build, cifar: tuple[Path, dict[str, dict[str, str]], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, digests, _ = cifar
    digests["train"]["data_batch_1"] = "0" * 32
    monkeypatch.setattr(ArrayUnpickler, "load", lambda self: pytest.fail("unpickled"))
    with pytest.raises(DataError, match=r"data_batch_1: md5 .* instead of 0{32}"):
        build(build_cifar, raw(folder), digests=digests, label="label")


class Malicious:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("protocol", range(5))
def test_a_pickle_can_only_contain_arrays(
    raw: Raw, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    """Even where its digest is the expected one."""
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"data": Malicious(), "labels": []}, protocol)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "batch").write_bytes(content)
    digest = {"batch": hashlib.md5(content).hexdigest()}
    with pytest.raises(DataError, match=r"the pickle asks for .*, only arrays and plain values are read"):
        build(
            build_cifar, raw(tmp_path / "raw"), digests=dict.fromkeys(("train", "test", "meta"), digest), label="label"
        )
    assert not (tmp_path / "executed").exists()


def test_arrays_of_the_numpy_that_wrote_cifar(tmp_path: Path) -> None:
    """As Python 2 and NumPy 1 pickled them: byte strings, and modules that have moved since."""
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    stored = (
        b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x06\x00\x01\x02\x03\x04\x05tbs."
    )
    content = ArrayUnpickler(io.BytesIO(stored), encoding="latin1").load()
    np.testing.assert_array_equal(content["data"], array)
