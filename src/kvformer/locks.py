"""The one lock of this package: a file that only one process holds at a time, on every file system."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from kvformer.errors import KvformerError

UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Answers of `flock` on file systems that have no locks."""
PATIENCE = 2.0
"""Seconds after which a process that waits says so."""


@contextmanager
def hold(path: Path, timeout: float, what: str) -> Iterator[None]:
    """Hold the lock file `path`, whose folder is created if it is missing, until the block ends.

    Where the file system has no locks, a file `<path>.owner` is held instead: it names the process and the host of its
    owner, and is taken over when that process has ended on this host.

    timeout: seconds to wait for another holder; negative waits for ever. what: what another holder does, as a clause
        ("another process is training this run").

    Raises:
        KvformerError: another process holds the lock after `timeout`.
        OSError: the file cannot be written; its text names file, cause and remedy.
    """
    lock = _acquired(path, timeout, what)
    try:
        yield
    finally:
        lock.release()


def _acquired(path: Path, timeout: float, what: str) -> BaseFileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # filelock's own fallback takes the empty file that a lock leaves behind for a lock that is held.
            return _wait(FileLock(path, fallback_to_soft=False), path, timeout, what)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        return _wait(SoftFileLock(owner_file(path)), path, timeout, what)
    except Timeout:
        raise KvformerError(f"{path}: {what}{_owner(path)}; wait until it has ended, then try again") from None
    except OSError as error:
        reason = f"{error.strerror or error}; this file is a lock, and its folder must be writable"
        raise OSError(error.errno, reason, str(path)) from None


def _wait(lock: BaseFileLock, path: Path, timeout: float, what: str) -> BaseFileLock:
    if 0 <= timeout <= PATIENCE:
        lock.acquire(timeout=timeout)
        return lock
    with suppress(Timeout):
        lock.acquire(timeout=PATIENCE)
        return lock
    print(f"{path}: {what}{_owner(path)}; waiting for it", flush=True)
    lock.acquire(timeout=timeout if timeout < 0 else timeout - PATIENCE)
    return lock


def owner_file(path: Path) -> Path:
    """The file that is held instead of `path` where the file system has no locks."""
    return path.with_name(f"{path.name}.owner")


def _owner(path: Path) -> str:
    """Who holds the lock, where that is written down."""
    with suppress(OSError, ValueError):
        process, host = owner_file(path).read_text(encoding="utf-8").splitlines()[:2]
        return f" (process {process} on {host}; if it no longer exists, delete {owner_file(path)})"
    return ""
