"""Facts about the process that trains: source tree, packages, processor, time."""

import platform
import subprocess
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

from kvformer.files import sha256_bytes
from kvformer.records.run import GitState

PACKAGES = (
    *("kvformer", "torch", "numpy", "pydantic", "safetensors", "snakemake", "mlflow", "pandas", "seaborn"),
    *("matplotlib", "scipy"),
)


def utc_now(before: float = 0.0) -> str:
    """The time now, or this many seconds before, in ISO 8601, UTC, to the second."""
    return (datetime.now(UTC) - timedelta(seconds=before)).strftime("%Y-%m-%dT%H:%M:%SZ")


def git_state() -> GitState:
    """The commit of the source tree that this package runs from, whether the tree was changed, and a digest of the
    changes. The digest covers the names of new files in the package, not their contents."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, check=True).stdout

    try:
        commit = git("rev-parse", "HEAD").decode().strip()
        changes = git("diff", "HEAD") + git("ls-files", "--others", "--exclude-standard", ".")
    except (OSError, subprocess.CalledProcessError):
        return GitState()
    return GitState(commit=commit, dirty=bool(changes), diff_sha256=sha256_bytes(changes) if changes else None)


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
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
