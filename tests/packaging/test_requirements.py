"""pyproject.toml is the only source: requirements.lock and the conda files are written from it."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()


@pytest.fixture(scope="module")
def lock_tool():
    specification = importlib.util.spec_from_file_location("lock", ROOT / "tools" / "lock.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pins():
    """Locked requirements by name; a name may have several, with markers that exclude each other."""
    found = {}
    for line in LOCK.splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def _direct():
    optional = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for group in (PROJECT["dependencies"], *optional) for text in group]


def test_every_requirement_is_locked_within_its_range(pins):
    for requirement in _direct():
        locked = pins[canonicalize_name(requirement.name)]
        for pin in locked:
            version = Version(str(pin.specifier).removeprefix("=="))
            assert requirement.specifier.contains(version), f"{pin} does not satisfy {requirement}: run `make lock`"


def test_the_lock_has_no_requirement_that_was_dropped():
    stated = {canonicalize_name(requirement.name) for requirement in _direct()}
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)
    locked = {canonicalize_name(re.match(r"[\w.-]+", b).group()) for b in blocks if "kvformer (pyproject.toml)" in b}
    assert locked == stated, "run `make lock`"


def test_every_pin_is_exact(pins):
    for requirement in (pin for group in pins.values() for pin in group):
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement


def test_environment_file_is_the_generated_one(lock_tool):
    assert lock_tool.CONDA.read_text() == lock_tool.conda_environment(), "run `make lock`"


def test_conda_files_name_no_other_versions(lock_tool):
    environment = yaml.safe_load(lock_tool.CONDA.read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert environment["dependencies"][-1] == {"pip": ["-r requirements.lock", "-e ."]}

    jobs = yaml.safe_load(lock_tool.JOBS.read_text())["dependencies"][-1]["pip"]
    assert set(jobs) <= set(LOCK.splitlines())
    names = {canonicalize_name(Requirement(text).name) for text in jobs}
    needed = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert needed <= names
    assert "pytest" not in names


def test_the_citation_states_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
