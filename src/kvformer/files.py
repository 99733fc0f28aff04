"""Plain files, written so that no reader ever sees an incomplete one."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
PARTIAL = ".partial"
"""The ending of a file's name while it is being written."""


def expand(path: str) -> str:
    """A path in which `~` and `~user` are home folders, and `$NAME` and `${NAME}` values of environment variables. A
    `$` in a name that exists as it is written, such as `a$b`, stays.

    Raises ValueError for a variable that is not set or empty, and for an unknown user.
    """
    if path.startswith("~"):
        path, written = os.path.expanduser(path), path  # noqa: PTH111 (it leaves an unknown user's name as it is)
        if path == written:
            raise ValueError(f"'{written}': there is no user {written[1:].partition('/')[0] or 'with a home folder'}")
    places = (Path(path), *Path(path).parents)
    if any("$" in place.name and not VARIABLE.fullmatch(place.name) and place.exists() for place in places):
        return path

    def value(match: re.Match[str]) -> str:
        if not (held := os.environ.get(name := match[1] or match[2])):
            raise ValueError(f"'{path}': the environment variable {name} is not set")
        return held

    return VARIABLE.sub(value, path)


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file next to `path`; it replaces `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.umask(mask := os.umask(0))  # the only way to read it
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the error of a full disk names no file
        raise


def remove_partial(folder: Path) -> None:
    """Remove what killed writers left in `folder`. No other process may be writing there."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_writer(path) as stream:
        stream.write(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable JSON with sorted keys, atomically."""
    write_text(path, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def canonical_json(content: Any) -> str:
    """The one-line JSON text of `content` with sorted keys: equal content gives equal text."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete lines of a JSON-lines file; an incomplete last line (its writer was killed) is left out."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield json.loads(line)


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
