"""Where the results of a study come from, and how far the packages that were used drift from the lock."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from kvformer.analysis.study import Study
from kvformer.errors import KvformerError
from kvformer.records.provenance import Provenance, StudyProvenance
from kvformer.records.run import RunFolder
from kvformer.records.tuning import FOLDER as TRIALS

LOCK = "requirements.lock"
PUBLISHED = Path("config", "published.csv")
SHARED = "provenance.json"
"""In the folder of an exported study: the records that its runs share."""
FACTS = {
    "python": "Python",
    "platform": "Platform",
    "cpu": "Processor",
    "gpu": "GPU",
    "cuda": "CUDA",
    "device": "Device",
    "compile": "Compiler",
    "precision": "Precision",
    "linear": "Linear maps by",
    "threads": "Threads per run",
}
"""Keys of provenance.json that are shown as they are, with their names in print."""


@dataclass(frozen=True)
class Package:
    """A package that runs used: the versions found in them, the version in the lock (None if it is not there)."""

    name: str
    running: tuple[str, ...]
    locked: str | None

    @property
    def drifts(self) -> bool:
        """Whether a run used another version than the lock names; builds such as `+cpu` of one version are the same."""
        return self.locked is not None and any(_public(version) != _public(self.locked) for version in self.running)


def is_exported(results: Path) -> bool:
    """Whether the folder of a study, or of its trials, is part of an exported copy, which has no run folders."""
    copy = results.parent if results.name == TRIALS else results
    return (copy / SHARED).exists() and not (results / "runs").exists()


def need_run_folders(results: Path) -> None:
    """Raise KvformerError where `results` is an exported copy: every run would count as missing."""
    if is_exported(results):
        raise KvformerError(f"{results}: is an exported copy without run folders; name the folder of the study itself")


def by_run(results: Path, study: Study) -> dict[str, Provenance]:
    """The provenance of each run by its path: its own file's, else (in an exported study) the record that it shares.

    Runs without a readable one are left out.
    """
    exported = StudyProvenance.read(results / SHARED) or StudyProvenance()
    found: dict[str, Provenance] = {path: record for record in exported.records for path in record.runs}
    for run in study.runs:
        if record := RunFolder(results / run.path).provenance():
            found[run.path] = record
    return {run.path: found[run.path] for run in study.runs if run.path in found}


def facts(records: Sequence[Provenance]) -> dict[str, str]:
    """Commit, machine and time of the runs by name; where runs differ, each value with its number of runs."""
    shown = {"Commit": _counted(_commit(record) for record in records)}
    for key, name in FACTS.items():
        values = [str(value) for record in records if (value := getattr(record, key)) is not None]
        shown[name] = _counted(values)
    shown["First start"] = min((record.start for record in records if record.start), default="")
    shown["Last end"] = max((record.end for record in records if record.end), default="")
    if resumed := sum((record.attempts or 1) > 1 for record in records):
        shown["Resumed"] = f"{resumed} of {len(records)} runs were interrupted and went on"
    return {name: text for name, text in shown.items() if text}


def versions(records: Iterable[Provenance]) -> list[tuple[str, str]]:
    """The packages that the runs used: pairs of name and version, sorted."""
    used = {(name, version) for record in records for name, version in record.packages.items() if version is not None}
    return sorted(used)


def compare_with_lock(running: Iterable[tuple[str, str]], lock: Path | None) -> list[Package]:
    """The packages that runs used, each with its version in the lock.

    running: pairs of name and version, a name once per version.

    Raises:
        KvformerError: a line of the lock is not a requirement.
    """
    locked = dict(locked_versions(lock)) if lock else {}
    found: dict[str, list[str]] = {}
    for name, version in running:
        found.setdefault(name, []).append(version)
    return [Package(name, tuple(used), locked.get(canonicalize_name(name))) for name, used in found.items()]


def find_lock(results: Path) -> Path | None:
    """The project's lock: requirements.lock in the working directory, or in the nearest folder above `results`."""
    return _first_file(folder / LOCK for folder in (Path.cwd(), *results.resolve().parents))


def find_published() -> Path | None:
    """The table of published numbers: config/published.csv in the working directory, or next to the source tree that
    this package runs from."""
    return _first_file(folder / PUBLISHED for folder in (Path.cwd(), Path(__file__).resolve().parents[3]))


def _first_file(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def locked_versions(lock: Path) -> Iterator[tuple[str, str]]:
    """Canonical name and version of each pin in a pip requirements file that holds on this platform.

    Raises:
        KvformerError: a line is not a requirement.
    """
    for number, line in enumerate(lock.read_text(encoding="utf-8").splitlines(), start=1):
        text = re.sub(r"(^|\s)#.*$", "", line).rstrip("\\ ").strip()
        if not text or text.startswith("-"):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise KvformerError(
                f"{lock}: line {number} holds {text!r}, a requirement such as name==1.2 is allowed"
            ) from None
        pin = next((clause.version for clause in requirement.specifier if clause.operator == "=="), None)
        if pin and (requirement.marker is None or requirement.marker.evaluate()):
            yield canonicalize_name(requirement.name), pin


def _public(version: str) -> Version | str:
    try:
        return Version(Version(version).public)
    except InvalidVersion:
        return version


def _commit(record: Provenance) -> str:
    if not record.git.commit:
        return "unknown (not run from a git checkout)"
    return f"{record.git.commit}{' with uncommitted changes' if record.git.dirty else ''}"


def _counted(values: Iterable[str]) -> str:
    counts = Counter(values)
    if len(counts) < 2:
        return next(iter(counts), "")
    return "; ".join(f"{value} ({count} {'run' if count == 1 else 'runs'})" for value, count in sorted(counts.items()))
