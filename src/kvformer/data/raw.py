"""Raw files of a data set: find them, check their digests, unpack archives."""

import gzip
import hashlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvformer.data.listing import list_files
from kvformer.errors import DataError
from kvformer.records.manifest import Manifest

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".whl")


@dataclass(frozen=True)
class RawFiles:
    """What a source delivered.

    `location` is a folder or an archive, `scratch` a temporary folder for unpacked files, `source` the name that goes
    into the manifest, `prepared` the sets that a derived set is made from.
    """

    location: Path
    scratch: Path
    source: str
    prepared: Mapping[str, Manifest] = field(default_factory=dict)

    def find(self, *names: str) -> Path:
        """The first file called one of `names`, plain or as NAME.gz, at any depth, also in archives.

        Raises DataError when there is none.
        """
        found = self._search(self.location, names)
        if found is None:
            unpacked = self.scratch / "unpacked"
            for archive in archives_in(self.location):
                if not (unpacked / archive.name).exists():
                    unpack(archive, unpacked / archive.name)
            found = self._search(unpacked, names)
        if found is None:
            raise DataError(f"{self.location}: no file {' or '.join(names)} in it")
        return found

    def read(self, *names: str, digest: str | None = None) -> bytes:
        """The content of the file that `find` returns, decompressed, and checked against an MD5 or SHA-256 `digest`.

        Raises DataError when the file is missing or damaged, or its digest is another.
        """
        path = self.find(*names)
        content = read_unpacked(path)
        if digest is not None:
            check_digest(path, content, digest)
        return content

    @staticmethod
    def _search(folder: Path, names: tuple[str, ...]) -> Path | None:
        wanted = {candidate for name in names for candidate in (name, f"{name}.gz")}
        files = list_files(folder, strict=False).files.values() if folder.is_dir() else ()
        return min((path for path in files if path.name in wanted), default=None)


def read_unpacked(path: Path) -> bytes:
    """The content of a file, decompressed. Raises DataError where it cannot be read."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def check_digest(path: Path, content: bytes, digest: str) -> None:
    """Raise DataError unless `content` (of `path`) has this MD5 (32 digits) or SHA-256 (64 digits, or the first)."""
    algorithm = "md5" if len(digest) == 32 else "sha256"
    actual = hashlib.new(algorithm, content).hexdigest()
    if not actual.startswith(digest):
        raise DataError(f"{path}: {algorithm} {actual} instead of {digest}: damaged, or another version of the file")


def archives_in(location: Path) -> list[Path]:
    """The archives at `location`: itself, or those directly inside the folder."""
    candidates = [location] if location.is_file() else sorted(location.glob("*"))
    return [path for path in candidates if path.name.endswith(ARCHIVES) and path.is_file()]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive, never outside `folder`.

    Raises DataError for a damaged archive, and for a tar file that the standard library's "data" filter refuses.
    zipfile itself drops the parts of a name that lead out of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if archive.name.endswith((".zip", ".whl")):
            with zipfile.ZipFile(archive) as zipped:
                zip_names(archive, zipped)
                zipped.extractall(folder)
        else:
            with tarfile.open(archive) as tarred:
                tarred.extractall(folder, filter="data")
    except DataError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise DataError(f"{archive}: cannot be unpacked ({error})") from None


def zip_names(path: Path, archive: zipfile.ZipFile) -> list[str]:
    """The names in a zip file, sorted. Raises DataError for a link, which zipfile reads as a text with its target."""
    for entry in archive.infolist():
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise DataError(f"{path}/{entry.filename}: a link, which a zip file cannot follow; pack what it leads to")
    return sorted(archive.namelist())
