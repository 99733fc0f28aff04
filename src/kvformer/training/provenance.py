"""Facts about the process that trains: source tree, packages, processor, time."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

from kvformer.files import sha256_bytes
from kvformer.records.provenance import GitState

PACKAGES = (
    *("kvformer", "torch", "numpy", "pydantic", "safetensors", "snakemake", "mlflow", "pandas", "seaborn"),
    *("matplotlib", "scipy"),
)

SOURCE = Path(__file__).resolve()
GIT_SECONDS = 60
DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
"""Options that make a diff independent of the user's settings."""


def utc_now(before: float = 0.0) -> str:
    """The time now, or this many seconds before, in ISO 8601, UTC, to the second."""
    return (datetime.now(UTC) - timedelta(seconds=before)).strftime("%Y-%m-%dT%H:%M:%SZ")


def git_state(source: Path = SOURCE) -> GitState:
    """The commit of the checkout that the module `source` is part of, whether the checkout was changed, and a digest of
    the changes. The digest covers the names of new files in the module's folder, not their contents.

    A repository around it that does not track the package, such as one in which a release was unpacked, does not count.
    Where there is no commit, a line in the log says why; a commit whose changes cannot be told has `dirty` null.
    """
    folder = source.parent
    try:
        _git(folder, "ls-files", "--error-unmatch", "--", source.name)
        commit = _git(folder, "rev-parse", "--verify", "HEAD").decode().strip()
    except (OSError, subprocess.SubprocessError) as error:
        _say(f"no commit is recorded for the code in {folder}: {_reason(error)}")
        return GitState()
    try:
        changes = _git(folder, "diff", *DIFF, "HEAD") + _git(folder, "ls-files", "--others", "--exclude-standard", ".")
    except (OSError, subprocess.SubprocessError) as error:
        _say(f"commit {commit} is recorded without its uncommitted changes: {_reason(error)}")
        return GitState(commit=commit)
    return GitState(commit=commit, dirty=bool(changes), diff_sha256=sha256_bytes(changes) if changes else None)


def _git(folder: Path, *arguments: str) -> bytes:
    """What git prints for the repository of `folder`, whatever its settings, its owner and the caller's environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}
    # The owner need not be the user: code of this checkout is running already.
    options = ("--no-pager", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true")
    return subprocess.run(
        ["git", *options, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=GIT_SECONDS,
    ).stdout


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "git is not installed"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"git gave no answer within {GIT_SECONDS} seconds"
    printed = getattr(error, "stderr", None) or b""
    lines = printed.decode(errors="replace").strip().splitlines()
    if lines and "did not match any file" in lines[0]:
        return "the git repository around it does not track it"
    return lines[0] if lines else str(error)


def _say(text: str) -> None:
    print(f"provenance: {text}", file=sys.stderr, flush=True)


def package_versions() -> dict[str, str | None]:
    """Versions of those `PACKAGES` that are installed."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
