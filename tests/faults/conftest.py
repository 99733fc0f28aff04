"""Tests of faults use small data, one thread, a disk that can be full, and the helpers of other folders."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Makes `processes`, `fixtures`, `runs` and `checkout` importable.
sys.path[:0] = [str(HERE), str(HERE.parent / "core"), str(HERE.parent / "workflow")]

from checkout import Project, copy_project  # noqa: E402
from fixtures import prepared, single_thread  # noqa: E402, F401


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh copy of the project."""
    return copy_project(tmp_path / "a folder")


class Disk:
    """A file system of one megabyte that can be filled up or made read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def leave(self, free: int) -> None:
        """Fill the disk until this many bytes are free."""
        space = os.statvfs(self.folder)
        self._filler.write_bytes(b"\0" * (space.f_bavail * space.f_frsize - free))

    def clear(self) -> None:
        """Free the space again."""
        self._filler.unlink()

    def read_only(self) -> None:
        """Refuse all writers, including root."""
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk. Only root can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here (only root can)")
    yield Disk(folder)
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Path]:
    """A folder on a FUSE file system, which keeps a removed file visible until it is closed, as NFS and SMB do."""
    source, folder = tmp_path / "source", tmp_path / "mirror"
    source.mkdir()
    folder.mkdir()
    if shutil.which("bindfs") is None or subprocess.run(["bindfs", source, folder], capture_output=True).returncode:
        pytest.skip("bindfs is not installed or may not mount here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
