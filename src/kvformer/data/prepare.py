"""Prepare a data set: go through its sources, verify, and leave memory-mappable arrays with a manifest."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from kvformer.data.datasets import Candidate, Dataset, find_dataset
from kvformer.data.user_files import note_files
from kvformer.errors import DataError
from kvformer.locks import hold
from kvformer.records.manifest import MANIFEST, USER_FILES, Manifest, ManifestWriter, UserFiles, load_manifest


def prepare(dataset: str, out: Path, user_folder: Path) -> Manifest:
    """Make sure that `out` holds the prepared data set, and return its manifest.

    An intact copy of the files that the user has now is kept, without a lock, so that it may be read-only; another one
    is replaced. Sources are tried in the order of the table, and one line is printed for each that fails, and for the
    user's files that are passed over. Sets that `dataset` is made from are prepared next to `out`. Two processes may
    call this at the same time: the second waits, then finds the copy of the first. Raises DataError for an unknown
    name, and when no source works.
    """
    entry = find_dataset(dataset)
    prepared = {name: prepare(name, out.parent / name, user_folder) for name in entry.requires}
    kept, problem = _intact(entry, out, user_folder)
    if kept is not None:
        return kept
    if problem:
        print(f"{entry.name}: {problem}", flush=True)
    try:
        with hold(out.parent / f".{out.name}.lock", -1, "another process is preparing this data set"):
            return _intact(entry, out, user_folder)[0] or _from_sources(entry, out, user_folder, prepared)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error})") from None


def _intact(entry: Dataset, out: Path, user_folder: Path) -> tuple[Manifest | None, str | None]:
    """The prepared set if it can stay, else what is wrong with it; neither if there is none."""
    try:
        manifest = load_manifest(out, verify=True)
    except DataError as error:
        return None, str(error) if os.path.exists(out / MANIFEST) else None  # noqa: PTH110 (where the folder is not readable)
    if changed := entry.outdated(manifest, user_folder):
        return None, changed
    print(f"{entry.name}: already prepared in {out} ({manifest.label}, {manifest.source})", flush=True)
    return manifest, None


def _from_sources(entry: Dataset, out: Path, user_folder: Path, prepared: dict[str, Manifest]) -> Manifest:
    partial = out.parent / f".{out.name}.partial"  # one process at a time, so an old one is always stale
    failures = []
    note = _look_through(entry, user_folder)
    try:
        for candidate in entry.candidates:
            shutil.rmtree(partial, ignore_errors=True)
            try:
                arrays = _build(entry, candidate, partial, user_folder, prepared)
                if note.files:
                    note.write(arrays / USER_FILES)
            except (DataError, OSError) as error:
                failures.append(f"{candidate.source}: {error}")
                print(f"{entry.name}: {failures[-1]}", flush=True)
                continue
            _move(arrays, out)
            manifest = load_manifest(out)
            print(f"{entry.name}: prepared in {out} ({manifest.label}, {manifest.source})", flush=True)
            return manifest
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    advice = entry.where_to_put(user_folder)
    reason = f"{entry.name} ({entry.label}) is not available: {'; '.join(failures)}"
    raise DataError(f"{reason}. To continue, {advice}" if advice else reason)


def _look_through(entry: Dataset, user_folder: Path) -> UserFiles:
    """A note of the user's files, taken before they are read, so that a change in the meantime is found. Prints what is
    passed over. The builder tells what is wrong with the files."""
    if entry.user_files is None:
        return UserFiles()
    try:
        for line in entry.remarks(user_folder):
            print(line, flush=True)
        return note_files(entry.user_files.location(user_folder))
    except (DataError, OSError):
        return UserFiles()


def _move(arrays: Path, out: Path) -> None:
    """Replace old files by new ones atomically, so that a process that reads them sees the old or the new one.

    There is no manifest in the meantime: a set that is half replaced never looks prepared.
    """
    out.mkdir(exist_ok=True)
    new = {path.name for path in arrays.iterdir()}
    (out / MANIFEST).unlink(missing_ok=True)
    for old in out.iterdir():
        if old.name not in new and old.is_file():
            old.unlink()
    for name in sorted(new - {MANIFEST}):
        (arrays / name).replace(out / name)
    (arrays / MANIFEST).replace(out / MANIFEST)


def _build(
    entry: Dataset, candidate: Candidate, partial: Path, user_folder: Path, prepared: dict[str, Manifest]
) -> Path:
    arrays, scratch = partial / "arrays", (partial / "scratch").resolve()  # clients run inside it
    arrays.mkdir(parents=True)
    scratch.mkdir()
    raw = replace(candidate.source.obtain(user_folder, scratch), prepared=prepared)
    writer = ManifestWriter(arrays)
    facts = candidate.build(raw, writer)
    source = "; ".join([raw.source, *(f"{base.label}: {base.source}" for base in prepared.values())])
    writer.finish(entry.name, candidate.label or entry.label, source, entry.license, facts)
    return arrays
