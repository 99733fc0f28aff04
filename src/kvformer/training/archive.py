"""Finished runs by content: a run that has the same identity as an archived one is taken over instead of trained."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from kvformer.config.gpus import kind_of_device
from kvformer.config.run import RunConfig
from kvformer.config.study import StudyConfig
from kvformer.errors import DataError
from kvformer.files import PARTIAL, atomic_writer, sha256_file
from kvformer.records.manifest import MANIFEST, Manifest
from kvformer.records.provenance import Identity, Provenance
from kvformer.records.run import ArchivedRun, RunConfiguration, RunFolder, Summary
from kvformer.training.identity import identity_of
from kvformer.training.provenance import utc_now


class Archive:
    """A folder with one folder per finished run, called by the digest of its identity. It may be deleted at any time.

    Archived files are hard links to those of the run folder where the file system has them, so they take no space.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, out: Path) -> None:
        """Archive the finished run in `out`, in place of an earlier one of the same identity.

        Raises:
            OSError: a file cannot be written.
        """
        run = RunFolder(out)
        provenance = run.provenance()
        if provenance is None or provenance.identity is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(PARTIAL, ".", self.folder, ignore_cleanup_errors=True) as scratch:
            new, old = Path(scratch, "new"), Path(scratch, "old")
            new.mkdir()
            files = {}
            for path in filter(Path.is_file, run.files):
                _link(path, new / path.name)
                files[path.name] = sha256_file(new / path.name)
            ArchivedRun(origin=self._name(out), files=files).write(_record(new))
            entry = self._entry(provenance.identity)
            if entry.exists():
                entry.rename(old)
            new.rename(entry)

    def take_over(
        self, run: RunConfig, identity: Identity, out: Path, keep_weights: bool, since: str = ""
    ) -> Summary | None:
        """Copy the archived run of this identity into the folder `out` and return its summary.

        since: take no run over that was archived before this time (ISO 8601, UTC).

        None where there is none; also where it was changed since, or has no weights although they are to be kept, which
        is said in one line.

        Raises:
            OSError: a file cannot be written.
            KvformerError: another process is training in `out`.
        """
        entry = RunFolder(self._entry(identity))
        if not entry.path.exists() or utc_now(before=time.time() - entry.path.stat().st_mtime) < since:
            return None
        try:
            record, summary, provenance = _checked(entry, identity)
            if keep_weights and entry.weights_file.name not in record.files:
                raise DataError(f"{entry.path}: the weights of this run were not kept")
        except (DataError, OSError) as error:
            print(f"{error}; training again", flush=True)
            return None
        folder = RunFolder(out)
        with folder.locked():
            folder.forget_outcome()
            RunConfiguration(**run.model_dump(mode="json"), hash=run.hash).write(folder.config_file)
            for path in (entry.attention_file, entry.samples_file, entry.correct_file, entry.metrics_file):
                if path.name in record.files:
                    _copy(path, out / path.name)
            if keep_weights:
                _link(entry.weights_file, folder.weights_file)
            elsewhere = None if record.origin == self._name(out) else record.origin
            provenance.model_copy(update={"taken_over_from": elsewhere}).write(folder.provenance_file)
            # The name of a setting and the values that it overrides are labels, which differ between studies.
            summary = summary.model_copy(update={"setting": run.setting})
            summary.write(folder.summary_file)
            folder.clear_progress()
        folder.remove_progress()
        print(f"taken over from {record.origin}, where this run was trained", flush=True)
        return summary

    def _entry(self, identity: Identity) -> Path:
        return self.folder / identity.digest

    def has(self, identity: Identity) -> bool:
        """Whether there is a run of this identity; its files are not checked."""
        return _record(self._entry(identity)).is_file()

    def _name(self, out: Path) -> str:
        """A run folder, as seen from the folder of all results, which may move."""
        return os.path.relpath(out.resolve(), self.folder.parent.resolve())


def prepared_digests(data_folder: Path, datasets: Iterable[str]) -> dict[str, str]:
    """SHA-256 of those data sets that are prepared."""
    manifests = {name: Manifest.read(data_folder / name / MANIFEST) for name in datasets}
    return {name: manifest.sha256 for name, manifest in manifests.items() if manifest is not None}


def planned_identity(run: RunConfig, data: dict[str, str], device: str, compiler_mode: str | None) -> Identity | None:
    """The identity that a run on this kind of device will have; None where a data set of it is not prepared yet.

    data: SHA-256 of prepared data sets by name.
    """
    if not data.keys() >= set(run.datasets):
        return None
    return identity_of(run, [data[name] for name in run.datasets], device, compiler_mode)


def count_archived(study: StudyConfig, runs: Mapping[str, RunConfig], gpu: bool) -> int:
    """How many of a study's runs are not finished in their folders, but in the archive.

    runs: by folder, relative to the study's. gpu: whether there is a GPU where the runs will be trained.
    """
    execution = study.execution
    archive, results = Archive(execution.archive), Path(execution.results_folder, study.name)
    if not execution.reuse or not archive.folder.is_dir():
        return 0
    data = prepared_digests(execution.prepared, study.datasets())
    device = kind_of_device(execution.device, gpu)
    count = 0
    for path, run in runs.items():
        identity = planned_identity(run, data, device, execution.compile)
        count += identity is not None and archive.has(identity) and not _finished(RunFolder(results / path), identity)
    return count


def _finished(run: RunFolder, identity: Identity) -> bool:
    provenance = run.provenance()
    mine = provenance is not None and provenance.identity is not None and provenance.identity.digest == identity.digest
    return mine and run.summary_file.exists()


def _checked(entry: RunFolder, identity: Identity) -> tuple[ArchivedRun, Summary, Provenance]:
    """What an entry of the archive says. Raises DataError or OSError where it is not the unchanged run of its name."""
    record = ArchivedRun.load(_record(entry.path))
    for name, digest in record.files.items():
        if sha256_file(entry.path / name) != digest:
            raise DataError(f"{entry.path / name}: was changed since it was archived")
    summary, provenance = Summary.load(entry.summary_file), Provenance.load(entry.provenance_file)
    if provenance.identity is None or provenance.identity.digest != identity.digest:
        raise DataError(f"{entry.path}: is not the run of its name")
    return record, summary, provenance


def _record(entry: Path) -> Path:
    return entry / "archived.json"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # the file system has no hard links, or the file is another user's
        shutil.copyfile(source, target)


def _copy(source: Path, target: Path) -> None:
    """A file of its own: Snakemake sets the time of its outputs, which must not change in another study."""
    with atomic_writer(target) as stream, source.open("rb") as content:
        shutil.copyfileobj(content, stream)
