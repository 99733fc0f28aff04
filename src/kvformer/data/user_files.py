"""Which of the user's files a data set was prepared from, and whether they have changed since."""

from pathlib import Path

from kvformer.data.listing import list_files
from kvformer.errors import DataError
from kvformer.files import sha256_file
from kvformer.records.manifest import USER_FILES, UserFiles


def note_files(location: Path) -> UserFiles:
    """Size, time of the last change and SHA-256 of every file at `location`; hidden ones do not count."""
    files = {}
    for name, path in list_files(location, strict=False).files.items():
        status = path.stat()
        files[name] = status.st_size, status.st_mtime_ns, sha256_file(path)
    return UserFiles(files=files)


def changed_files(folder: Path, location: Path, unknown: bool) -> list[str]:
    """Names of the files at `location` that were added, removed or altered since the set in `folder` was prepared.

    A file with a new time but the old content has not changed. There is nothing to compare with where the files are
    gone or out of reach. unknown: whether a set without a note, of an older version, is taken to be outdated.
    """
    try:
        now = list_files(location, strict=False).files if location.exists() else {}
        note = UserFiles.read(folder / USER_FILES)
        if not now or (note is None and not unknown):
            return []
        before = note.files if note is not None else {}
        return sorted(name for name in {*before, *now} if _differs(before.get(name), now.get(name)))
    except (DataError, OSError):
        return []


def _differs(noted: tuple[int, int, str] | None, path: Path | None) -> bool:
    if noted is None or path is None:
        return True
    size, changed, digest = noted
    status = path.stat()
    return status.st_size != size or (status.st_mtime_ns != changed and sha256_file(path) != digest)
