"""What is in a folder of the user's: every file is either listed, named as passed over, or refused."""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kvformer.errors import DataError

CLUTTER = {".DS_Store", "__MACOSX", "Thumbs.db", "desktop.ini"}
"""What operating systems leave in folders. None of it is data, so nobody is told that it is passed over."""


@dataclass(frozen=True)
class Listing:
    """The files at a location by name, relative to it and sorted; its folders, which end in a slash; and what is passed
    over: hidden files and folders, links in a loop, and what is neither a file nor a folder."""

    files: dict[str, Path]
    folders: list[str]
    passed_over: list[str]


def list_files(location: Path, strict: bool = True) -> Listing:
    """Everything in the folder `location` at any depth, or the file itself. Links are followed, but never into a folder
    that they are in.

    Raises DataError for a folder that cannot be read; where `strict`, also for a link to nothing and for a name that is
    not UTF-8.
    """
    files: dict[str, Path] = {}
    folders: list[str] = []
    passed_over: list[str] = []

    def visit(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        for path in _entries(folder):
            name = prefix + path.name
            if is_clutter(path.name):
                continue
            status = _status(path, strict)
            kind = 0 if status is None else stat.S_IFMT(status.st_mode)
            if path.name.startswith("."):
                passed_over.append(f"{name}/" if kind == stat.S_IFDIR else name)
            elif kind == stat.S_IFREG:
                files[name] = path
            elif status is None or kind != stat.S_IFDIR:
                passed_over.append(f"{name} (a link in a loop)" if path.is_symlink() else f"{name} (not a file)")
            elif (identity := (status.st_dev, status.st_ino)) in above:
                passed_over.append(f"{name} (a link to a folder that it is in)")
            else:
                folders.append(f"{name}/")
                visit(path, f"{name}/", above | {identity})

    if location.is_file():
        return Listing({location.name: location}, [], [])
    root = _status(location, strict=True)
    visit(location, "", frozenset({(root.st_dev, root.st_ino)} if root else ()))
    return Listing(dict(sorted(files.items())), sorted(folders), sorted(passed_over))


def is_clutter(name: str) -> bool:
    """Whether a file of this name was made by an operating system, not by the user."""
    return name in CLUTTER or name.startswith("._")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None


def _status(path: Path, strict: bool) -> os.stat_result | None:
    """The status of a file or of what a link leads to; None for a link in a loop, and unless `strict` to nothing."""
    if strict and not path.name.isascii():
        readable = os.fsencode(path).decode("utf-8", "backslashreplace")
        if readable != str(path):
            raise DataError(f"{readable}: its name is not UTF-8; rename it")
    try:
        return path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP or not strict:
            return None
        problem = "a link to nothing" if path.is_symlink() and error.errno == errno.ENOENT else error.strerror
        raise DataError(f"{path}: {problem}") from None


def summary(names: list[str]) -> str:
    """The first names of a list and how many more there are, as a phrase."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
