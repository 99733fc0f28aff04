"""Write requirements.lock, environment.yml and workflow/envs/kvformer.yaml from pyproject.toml.

pyproject.toml is the only list written by hand. The lock holds exact versions for every platform and Python >= 3.11.4;
the conda files take Python from conda-forge and everything else from the lock.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
CONDA = ROOT / "environment.yml"
JOBS = ROOT / "workflow" / "envs" / "kvformer.yaml"
PYTHON = "python >=3.11.4,<3.14"
HEADER = "# Written by `make lock` from pyproject.toml; do not edit.\n"


def compile_pins(*options: str) -> str:
    """Exact versions for pyproject.toml's requirements, with markers for every platform, from the package registry."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11", "--quiet", *options]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "UV_CUSTOM_COMPILE_COMMAND": "make lock",
    }
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def conda_environment() -> str:
    """environment.yml: for a person, with the package itself, installed in place."""
    return _conda_file(["-r requirements.lock", "-e ."])


def job_environment(pins: str) -> str:
    """The environment of `snakemake --sdm conda`, which copies the file elsewhere: all pins, no paths, no kvformer."""
    return _conda_file([f'"{line}"' for line in pins.splitlines() if re.match(r"[A-Za-z0-9]", line)])


def _conda_file(requirements: list[str]) -> str:
    lines = ["name: kvformer", "channels:", "  - conda-forge", "  - nodefaults", "dependencies:"]
    lines += [f"  - {PYTHON}", "  - pip", "  - pip:", *(f"      - {requirement}" for requirement in requirements)]
    return HEADER + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--upgrade", action="store_true", help="use the newest versions that pyproject.toml allows")
    arguments = parser.parse_args()
    # The versions of an existing lock are kept unless --upgrade is given.
    compile_pins("--all-extras", "--output-file", LOCK.name, *(["--upgrade"] if arguments.upgrade else []))
    CONDA.write_text(conda_environment(), encoding="utf-8")
    JOBS.write_text(job_environment(compile_pins("--constraint", LOCK.name, "--no-annotate")), encoding="utf-8")


if __name__ == "__main__":
    main()
