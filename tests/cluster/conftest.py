"""A real SLURM of one node (tools/start_slurm.sh), a copy of the project on it, and the helpers of other folders."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
# Makes `studies`, `runs` and `checkout` importable.
sys.path[:0] = [str(HERE), str(HERE.parent / "core"), str(HERE.parent / "workflow")]

from checkout import Project, copy_project  # noqa: E402


def _reason_to_skip() -> str | None:
    try:
        running = subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=10).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        running = False
    if not running:
        return "no SLURM is running here; as root: tools/start_slurm.sh"
    return "the SLURM plugin cannot use an interpreter in a path with a space" if " " in sys.executable else None


@pytest.fixture(scope="session")
def slurm() -> None:
    """Skips where no SLURM is running."""
    if reason := _reason_to_skip():
        pytest.skip(reason)


@pytest.fixture
def project(slurm: None, tmp_path: Path) -> Project:
    """A copy of the project; its profile queries SLURM more often and does not wait for a shared file system."""
    project = copy_project(tmp_path / "cluster")
    path = project.folder / "profiles" / "slurm" / "profile.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    profile |= {"slurm-init-seconds-before-status-checks": 2, "latency-wait": 5}
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")
    return project
