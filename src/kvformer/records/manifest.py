"""A prepared data set: a folder of plain arrays and a `manifest.json` that says what they are and where they came from.

This is all that training imports of `kvformer.data`: numpy and JSON.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kvformer.errors import DataError
from kvformer.files import canonical_json, read_json, sha256_bytes, sha256_file, write_json, write_text

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a prepared data set holds.

    `sha256` is the digest over the arrays and the facts, so two runs with equal digests saw equal data. `label` is the
    name to print: a stand-in has its own.
    """

    dataset: str
    label: str
    source: str
    license: str
    sha256: str
    facts: dict[str, Any]
    folder: Path
    files: dict[str, dict[str, Any]] = field(repr=False)

    def array(self, key: str) -> np.ndarray:
        """The array `key`, memory-mapped and read-only. Raises DataError when the set has no such array."""
        array: np.ndarray = np.load(self._path(key, ".npy"), mmap_mode="r", allow_pickle=False)
        return array

    def lines(self, key: str) -> list[str]:
        """The text file `key` as a list of lines. Raises DataError when the set has no such text."""
        return self._path(key, ".txt").read_text(encoding="utf-8").split("\n")[:-1]

    def record(self) -> dict[str, str]:
        """What every result says about its data."""
        return {"dataset": self.dataset, "label": self.label, "source": self.source, "sha256": self.sha256}

    def _path(self, key: str, suffix: str) -> Path:
        kind = [name for name, entry in self.files.items() if entry["file"].endswith(suffix)]
        if key not in kind:
            raise DataError(
                f"{self.folder / MANIFEST}: no {key!r} in data set {self.dataset}; it has {', '.join(sorted(kind))}"
            )
        return self.folder / str(self.files[key]["file"])


class ManifestWriter:
    """Collects the arrays and texts of one data set in `folder`, then writes their manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, str] = {}

    def create(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.memmap:
        """A new array on disk, to be filled in place: for sets that are larger than memory should hold."""
        self._files[key] = f"{key}.npy"
        return np.lib.format.open_memmap(self.folder / f"{key}.npy", mode="w+", dtype=np.dtype(dtype), shape=shape)

    def save(self, key: str, array: np.ndarray) -> None:
        """Store `array` under `key`."""
        self._files[key] = f"{key}.npy"
        np.save(self.folder / f"{key}.npy", np.ascontiguousarray(array), allow_pickle=False)

    def save_lines(self, key: str, lines: list[str]) -> None:
        """Store `lines`, none of which may contain a line break, under `key`."""
        self._files[key] = f"{key}.txt"
        write_text(self.folder / f"{key}.txt", "".join(f"{line}\n" for line in lines))

    def finish(self, dataset: str, label: str, source: str, license: str, facts: dict[str, Any]) -> None:
        """Write the manifest: without a time stamp, so the same source gives the same bytes."""
        files = {key: self._entry(name) for key, name in sorted(self._files.items())}
        content = {
            "dataset": dataset, "label": label, "source": source, "license": license,
            "files": files, "facts": facts, "sha256": _digest(files, facts),
        }  # fmt: skip
        write_json(self.folder / MANIFEST, content)

    def _entry(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        entry: dict[str, Any] = {"file": name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        if name.endswith(".npy"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            entry |= {"shape": list(array.shape), "dtype": array.dtype.name}
        return entry


def _digest(files: dict[str, dict[str, Any]], facts: dict[str, Any]) -> str:
    return sha256_bytes(canonical_json([{key: entry["sha256"] for key, entry in files.items()}, facts]).encode())


def load_manifest(folder: Path, verify: bool = False) -> Manifest:
    """Read the prepared data set in `folder`.

    File sizes are always checked; `verify` also reads every file and compares its SHA-256. Raises DataError, one line
    that names the file, when something is missing, truncated or altered.
    """
    path = folder / MANIFEST
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise DataError(f"{path}: missing; prepare the data set first: kvformer prepare {folder.name}") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); prepare the data set again") from None
    try:
        manifest = Manifest(folder=folder, **content)
        intact = manifest.sha256 == _digest(manifest.files, manifest.facts)
        expected = [(folder / entry["file"], entry["bytes"], entry["sha256"]) for entry in manifest.files.values()]
    except (TypeError, KeyError, AttributeError):
        raise DataError(f"{path}: not a manifest of a prepared data set; prepare the data set again") from None
    if not intact:
        raise DataError(f"{path}: its sha256 does not fit what it lists; prepare the data set again")
    for file, size, sha256 in expected:
        if not file.is_file():
            raise DataError(f"{file}: missing; prepare the data set again")
        if file.stat().st_size != size:
            raise DataError(f"{file}: {file.stat().st_size} bytes instead of {size}; prepare the data set again")
        if verify and sha256_file(file) != sha256:
            raise DataError(f"{file}: its SHA-256 is not the one in {MANIFEST}; prepare the data set again")
    return manifest
