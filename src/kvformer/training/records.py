"""Records of a run: metric points while it goes on, and its provenance."""

import json
import math
import os
import platform
import subprocess
import time
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from kvformer.files import sha256_bytes

PACKAGES = (
    "kvformer",
    "torch",
    "numpy",
    "pydantic",
    "safetensors",
    "snakemake",
    "mlflow",
    "pandas",
    "seaborn",
    "matplotlib",
    "scipy",
)


class MetricLog:
    """Appends points to a JSON-lines file. Opening it cuts off everything after `size` bytes: what a resumed run will
    write again."""

    def __init__(self, path: Path, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("r+b" if path.exists() else "w+b")
        self._stream.truncate(size)
        self._stream.seek(size)

    def write(self, step: int, epoch: float, elapsed: float, values: dict[str, float]) -> None:
        """Append one line a value, in the given order."""
        now = time.time_ns() // 1_000_000
        for key, value in values.items():
            point = {
                "step": step,
                "epoch": round(epoch, 6),
                "key": key,
                "value": value if math.isfinite(value) else str(value),
                "elapsed": round(elapsed, 4),
                "time": now,
            }
            self._stream.write(json.dumps(point).encode() + b"\n")
        self._stream.flush()

    def sync(self) -> int:
        """Force the points to the disk and return the size of the file in bytes."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self._stream.tell()

    def close(self) -> None:
        """Force the points to the disk and close the file."""
        self.sync()
        self._stream.close()


def utc_now(before: float = 0.0) -> str:
    """The time now, or so many seconds before, in ISO 8601, UTC, to the second."""
    return (datetime.now(UTC) - timedelta(seconds=before)).strftime("%Y-%m-%dT%H:%M:%SZ")


def git_state() -> dict[str, Any]:
    """Commit of the source tree that this package runs from, whether it was changed, and a digest of the changes
    (of files that are new in the package, of their names)."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, check=True).stdout

    try:
        commit = git("rev-parse", "HEAD").decode().strip()
        changes = git("diff", "HEAD") + git("ls-files", "--others", "--exclude-standard", ".")
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None, "diff_sha256": None}
    return {"commit": commit, "dirty": bool(changes), "diff_sha256": sha256_bytes(changes) if changes else None}


def package_versions() -> dict[str, str]:
    """Versions of the packages that matter and are installed."""
    versions = {}
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
