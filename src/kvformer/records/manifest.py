"""A prepared data set: a folder of plain arrays and texts, and a `manifest.json` that lists them and their source."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field

from kvformer.errors import DataError
from kvformer.files import canonical_json, sha256_bytes, sha256_file, write_text
from kvformer.records.base import FileRecord, Record

MANIFEST = "manifest.json"
USER_FILES = "user_files.json"


class UserFiles(FileRecord):
    """The user's files that a data set was prepared from, noted next to its manifest: size in bytes, time of the last
    change in nanoseconds and SHA-256 by name, relative to the user's folder."""

    files: dict[str, tuple[int, int, str]] = Field({})


class PreparedFile(Record):
    """A file of a prepared data set. An array (.npy) also has its `shape` and `dtype`, a text (.txt) has not."""

    file: str
    bytes: int
    sha256: str


class Manifest(FileRecord):
    """What a prepared data set holds; a file with unknown or missing keys is refused.

    `sha256` is the digest over the files and the facts: runs with equal digests saw equal data. `label` is the name to
    print: a stand-in has its own. `folder` is where the set was read from; it is not in the file.
    """

    model_config = ConfigDict(extra="forbid")

    dataset: str
    label: str
    source: str
    license: str
    sha256: str
    facts: dict[str, Any]
    files: dict[str, PreparedFile]
    folder: Path = Field(Path(), exclude=True)

    def array(self, key: str) -> np.ndarray:
        """The array `key`, memory-mapped and read-only. Raises DataError when the set has no such array."""
        array: np.ndarray = np.load(self._path(key, ".npy"), mmap_mode="r", allow_pickle=False)
        return array

    def lines(self, key: str) -> list[str]:
        """The text file `key` as the list of lines that was written: only a line feed ends a line. Raises DataError
        when the set has no such text."""
        return self._path(key, ".txt").read_bytes().decode("utf-8").split("\n")[:-1]

    def record(self) -> dict[str, str]:
        """What every result says about its data."""
        return {"dataset": self.dataset, "label": self.label, "source": self.source, "sha256": self.sha256}

    def _path(self, key: str, suffix: str) -> Path:
        paths = {name: self.folder / entry.file for name, entry in self.files.items() if entry.file.endswith(suffix)}
        if key not in paths:
            known = ", ".join(sorted(paths))
            raise DataError(f"{self.folder / MANIFEST}: no {key!r} in data set {self.dataset}; it has {known}")
        return paths[key]

    def _check(self, verify: bool) -> None:
        if self.sha256 != _digest(self.files, self.facts):
            raise DataError(f"{self.folder / MANIFEST}: its sha256 does not fit what it lists")
        for entry in self.files.values():
            path = self.folder / entry.file
            try:
                if not path.is_file():
                    raise DataError(f"{path}: missing")
                if path.stat().st_size != entry.bytes:
                    raise DataError(f"{path}: {path.stat().st_size} bytes instead of {entry.bytes}")
                if verify and sha256_file(path) != entry.sha256:
                    raise DataError(f"{path}: its SHA-256 is not the one in {MANIFEST}")
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def load_manifest(folder: Path, verify: bool = False) -> Manifest:
    """Read the prepared data set in `folder`.

    File sizes are always checked; `verify` also reads every file and compares its SHA-256. Raises DataError, one line
    that names the file, when something is missing, truncated or altered.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.load(path).model_copy(update={"folder": folder})
        manifest._check(verify)
    except FileNotFoundError:
        raise DataError(f"{path}: missing; prepare the data set first: kvformer prepare {folder.name}") from None
    except DataError as error:
        raise DataError(f"{error}; prepare the data set again") from None
    return manifest


class ManifestWriter:
    """Collects the arrays and texts of one data set in `folder`, then writes their manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: dict[str, Path] = {}

    def create(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.memmap:
        """A new array on disk, to be filled in place: for sets that may not fit into memory."""
        path = self._paths[key] = self.folder / f"{key}.npy"
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)

    def save(self, key: str, array: np.ndarray) -> None:
        """Store `array` under `key`."""
        path = self._paths[key] = self.folder / f"{key}.npy"
        np.save(path, np.ascontiguousarray(array), allow_pickle=False)

    def save_lines(self, key: str, lines: list[str]) -> None:
        """Store `lines`, none of which may contain a line feed, under `key`."""
        path = self._paths[key] = self.folder / f"{key}.txt"
        write_text(path, "".join(f"{line}\n" for line in lines))

    def finish(self, dataset: str, label: str, source: str, license: str, facts: dict[str, Any]) -> None:
        """Write the manifest: without a time stamp, so the same source gives the same bytes."""
        files = {key: _entry(path) for key, path in sorted(self._paths.items())}
        manifest = Manifest(
            dataset=dataset, label=label, source=source, license=license,
            files=files, facts=facts, sha256=_digest(files, facts),
        )  # fmt: skip
        manifest.write(self.folder / MANIFEST)


def _entry(path: Path) -> PreparedFile:
    extra: dict[str, Any] = {}
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        extra = {"shape": list(array.shape), "dtype": array.dtype.name}
    return PreparedFile(file=path.name, bytes=path.stat().st_size, sha256=sha256_file(path), **extra)


def _digest(files: dict[str, PreparedFile], facts: dict[str, Any]) -> str:
    return sha256_bytes(canonical_json([{key: entry.sha256 for key, entry in files.items()}, facts]).encode())
