"""Raw files: found at any depth, decompressed, verified; archives cannot write outside their folder."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kvformer.data.raw import RawFiles, unpack
from kvformer.errors import DataError

Raw = Callable[[Path], RawFiles]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for a set."""
    path = tmp_path / "user" / "set"
    path.mkdir(parents=True)
    return path


def tar_with(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, link
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("place", ["labels", "MNIST/raw/labels", "deep/er/labels.gz"])
def test_a_file_is_found_at_any_depth_plain_or_gzipped(folder: Path, raw: Raw, place: str) -> None:
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(b"content") if place.endswith(".gz") else b"content")
    assert raw(folder).read("labels", digest=hashlib.sha256(b"content").hexdigest()) == b"content"


def test_a_file_is_found_in_an_archive(folder: Path, raw: Raw) -> None:
    tar_with(folder / "set.tar.gz", {"inner/labels": b"content"})
    assert raw(folder).read("labels", digest=hashlib.md5(b"content").hexdigest()) == b"content"
    assert [path.name for path in folder.iterdir()] == ["set.tar.gz"]


def test_an_archive_is_unpacked_once(folder: Path, raw: Raw) -> None:
    tar_with(folder / "set.tar.gz", {"inner/labels": b"content", "inner/images": b"pixels"})
    files = raw(folder)
    assert files.read("labels") == b"content"
    (folder / "set.tar.gz").write_bytes(b"no longer needed")
    assert files.read("images") == b"pixels"


def test_the_location_may_be_the_archive_itself(folder: Path, raw: Raw) -> None:
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.writestr("inner/labels", b"content")
    assert raw(folder / "set.zip").read("labels") == b"content"


def test_a_missing_file_is_named(folder: Path, raw: Raw) -> None:
    with pytest.raises(DataError, match=r"set: no file labels or label.txt in it"):
        raw(folder).find("labels", "label.txt")


def test_a_wrong_digest_is_reported(folder: Path, raw: Raw) -> None:
    (folder / "labels").write_bytes(b"content.")
    with pytest.raises(
        DataError, match=r"labels: md5 [0-9a-f]{32} instead of [0-9a-f]{32}: damaged, or another version"
    ):
        raw(folder).read("labels", digest=hashlib.md5(b"content").hexdigest())


def test_a_damaged_gzip_file_is_reported(folder: Path, raw: Raw) -> None:
    (folder / "labels.gz").write_bytes(gzip.compress(b"content" * 100)[:-9])
    with pytest.raises(DataError, match=r"labels.gz: cannot be read"):
        raw(folder).read("labels")


@pytest.mark.parametrize("name", ["../escaped", "/tmp/kvformer-escaped", "inner/../../escaped"])
def test_archives_do_not_write_outside_their_folder(folder: Path, tmp_path: Path, name: str) -> None:
    tar_with(folder / "bad.tar.gz", {name: b"content"})
    with zipfile.ZipFile(folder / "bad.zip", "w") as archive:
        archive.writestr(name, b"content")
    target = tmp_path / "target" / "inside"
    for archive_name in ("bad.tar.gz", "bad.zip"):
        try:
            unpack(folder / archive_name, target)
        except DataError as error:
            assert archive_name in str(error)
        outside = [path for path in tmp_path.rglob("*escaped*") if not path.is_relative_to(target)]
        assert not outside
        assert not Path("/tmp/kvformer-escaped").exists()


def test_a_link_out_of_an_archive_is_refused(folder: Path, tmp_path: Path) -> None:
    tar_with(folder / "bad.tar.gz", {"passwords": b""}, kind=tarfile.SYMTYPE, link="/etc/passwd")
    with pytest.raises(DataError, match=r"bad.tar.gz: cannot be unpacked"):
        unpack(folder / "bad.tar.gz", tmp_path / "target")


@pytest.mark.parametrize("name", ["bad.zip", "bad.tar.gz"])
def test_a_file_that_is_not_an_archive_is_reported(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(b"not an archive")
    with pytest.raises(DataError, match=rf"{name}: cannot be unpacked"):
        unpack(folder / name, tmp_path / "target")
