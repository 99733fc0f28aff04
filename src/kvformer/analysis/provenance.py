"""Where the results of a study come from, and how far the running packages drift from the lock."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from kvformer.analysis.study import Study
from kvformer.errors import KvformerError
from kvformer.files import read_json

LOCK = "requirements.lock"
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
    "threads": "Threads a run",
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


def load_provenance(results: Path, study: Study) -> list[dict[str, Any]]:
    """The provenance of every run that has left one, in the study's order; damaged ones count as absent."""
    return list(by_run(results, study).values())


def by_run(results: Path, study: Study) -> dict[str, dict[str, Any]]:
    """The provenance of each run by its path: its own file's, else (in an exported study) the record that it shares."""
    shared = _read(results / SHARED).get("records") or []
    found = {path: record for record in shared for path in record.get("runs", ())}
    for run in study.runs:
        if record := _read(results / run["path"] / "provenance.json"):
            found[run["path"]] = record
    return {run["path"]: found[run["path"]] for run in study.runs if run["path"] in found}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def facts(records: list[dict[str, Any]]) -> dict[str, str]:
    """What the runs have in common or not, by name: commit, machine, time; several values with their counts of runs."""
    shown = {"Commit": _counted(_commit(record) for record in records)}
    for key, name in FACTS.items():
        values = [record[key] for record in records if record.get(key) is not None]
        if values:
            shown[name] = _counted(map(str, values))
    for key, name, choose in (("start", "First start", min), ("end", "Last end", max)):
        if times := [str(record[key]) for record in records if record.get(key)]:
            shown[name] = choose(times)
    if resumed := sum(int(record.get("attempts") or 1) > 1 for record in records):
        shown["Resumed"] = f"{resumed} of {len(records)} runs were interrupted and went on"
    return {name: text for name, text in shown.items() if text}


def packages(records: list[dict[str, Any]], lock: Path | None) -> list[Package]:
    """The packages of the runs, by name, each beside its version in the lock.

    Raises:
        KvformerError: a line of the lock is no requirement.
    """
    running: dict[str, Counter[str]] = {}
    for record in records:
        for name, version in (record.get("packages") or {}).items():
            if version is not None:
                running.setdefault(name, Counter())[str(version)] += 1
    locked = dict(locked_versions(lock)) if lock else {}
    return [Package(name, tuple(sorted(running[name])), locked.get(_canonical(name))) for name in sorted(running)]


def find_lock(results: Path) -> Path | None:
    """The project's lock: requirements.lock in the working directory, or in the nearest folder above `results`."""
    folders = [Path.cwd(), *results.resolve().parents]
    return next((folder / LOCK for folder in folders if (folder / LOCK).is_file()), None)


def locked_versions(lock: Path) -> Iterator[tuple[str, str]]:
    """Canonical name and version of each pin in a pip requirements file that holds on this platform.

    Raises:
        KvformerError: a line is no requirement.
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
            yield _canonical(requirement.name), pin


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _public(version: str) -> Version | str:
    try:
        return Version(Version(version).public)
    except InvalidVersion:
        return version


def _commit(record: dict[str, Any]) -> str:
    git = record.get("git") or {}
    if not git.get("commit"):
        return "unknown (not run from a git checkout)"
    return f"{git['commit']}{' with uncommitted changes' if git.get('dirty') else ''}"


def _counted(values: Iterable[str]) -> str:
    counts = Counter(values)
    if len(counts) < 2:
        return next(iter(counts), "")
    return "; ".join(f"{value} ({count} {'run' if count == 1 else 'runs'})" for value, count in sorted(counts.items()))
