"""A run folder: `runs/<task>/<setting>/<variant>/seed<k>/` and the format of every file in it."""

import math
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_serializer

from kvformer.files import read_json, remove_partial, write_bytes
from kvformer.locks import hold, owner_file
from kvformer.records.base import FileRecord, Record
from kvformer.records.provenance import DataRecord, Provenance

Goal = Literal["max", "min"]
RunStatus = Literal["finished", "diverged", "failed", "not started", "missing", "stale"]
"""finished, diverged: the run came to an end. failed: it stopped with an error. not started: the first seed of its cell
failed. missing: it was not run, or is not finished. stale: its folder belongs to another configuration."""
LOCK_SECONDS = 10.0
"""How long a process waits for another one that trains in the same folder: long enough for one that is ending."""


class Primary(Record):
    """The metric that a task is judged by, with its split (`test/accuracy`), and whether more or less is better."""

    metric: str
    goal: Goal


class ParameterCounts(Record):
    """Parameters of the model: counted, of its attention layers, and by the closed formula."""

    total: int | None = None
    attention: int | None = None
    formula: int | None = None


class Summary(FileRecord):
    """`summary.json`: how a run ended. It is written last, so a folder that has it is complete.

    status: `finished`, or `diverged` where the loss became non-finite. metrics: by key (`<split>/<quantity>`).
    seconds: by phase (startup, stepping, evaluation, recording) and `total`.
    """

    status: Literal["finished", "diverged"]
    task: str = ""
    family: str = ""
    setting: str = ""
    variant: str = ""
    seed: int = 0
    protocol: str = ""
    config_hash: str | None = None
    primary: Primary | None = None
    metrics: dict[str, float]
    parameters: ParameterCounts = Field(default_factory=ParameterCounts)
    steps: int | None = None
    selected_step: int | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    samples_per_second: float | None = None
    data: list[DataRecord] = Field(default_factory=list)

    @field_serializer("metrics")
    def _json_has_no_infinity(self, metrics: dict[str, float]) -> dict[str, float | str]:
        return {key: value if math.isfinite(value) else str(value) for key, value in metrics.items()}


NOT_STARTED = "not started"
"""The type of a failure that is not an error."""


class Failure(FileRecord):
    """`failure.json`: the error that stopped a run, the attempt (from 1) in which it did, and the traceback.

    cell: digest of what the runs of a cell have in common (`training.identity.cell_digest`); None where the error says
        nothing about the other seeds.
    """

    type: str = ""
    error: str = ""
    time: str | None = None
    attempt: int | None = None
    trace: str = ""
    cell: str | None = None

    @classmethod
    def not_started(cls, reason: str, time: str) -> "Failure":
        """The record of a run that was not started."""
        return cls(type=NOT_STARTED, error=reason, time=time)


class ArchivedRun(FileRecord):
    """`archived.json`: the SHA-256 of each file of a run in the archive, and the run folder in which it was trained."""

    origin: str
    files: dict[str, str]


class RunConfiguration(FileRecord):
    """`config.json`: the resolved configuration of a run with its hash, as written (`config.run.RunConfig`)."""

    hash: str | None = None

    @property
    def content(self) -> dict[str, Any]:
        """Everything but the hash."""
        return dict(self.model_extra or {})


@dataclass(frozen=True)
class RunFolder:
    """The files of one run by name. The readers of single files return None where one is missing or damaged."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        """The points of the run's curves (`records.metrics`)."""
        return self.path / "metrics.jsonl"

    @property
    def summary_file(self) -> Path:
        """How the run ended."""
        return self.path / "summary.json"

    @property
    def provenance_file(self) -> Path:
        """Where the run was trained."""
        return self.path / "provenance.json"

    @property
    def failure_file(self) -> Path:
        """The error that stopped the run."""
        return self.path / "failure.json"

    @property
    def attention_file(self) -> Path:
        """`inputs`, `logits` and `weights` of a few examples (training.diagnostics.attention_maps)."""
        return self.path / "attention.npz"

    @property
    def samples_file(self) -> Path:
        """Texts that the model wrote, a list of {"prompt", "text"} and, in translation, "reference"."""
        return self.path / "samples.json"

    @property
    def correct_file(self) -> Path:
        """Which examples the run got right (`records.correct`); only in tasks judged by accuracy."""
        return self.path / "correct.json"

    @property
    def weights_file(self) -> Path:
        """The selected weights, where the study keeps them."""
        return self.path / "model.safetensors"

    @property
    def progress(self) -> Path:
        """Folder that exists only until the run is finished."""
        return self.path / "progress"

    @property
    def lock_file(self) -> Path:
        """Locked by the process that trains the run."""
        return self.progress / "lock"

    @property
    def progress_metrics_file(self) -> Path:
        """The points so far of a run in progress."""
        return self.progress / "metrics.jsonl"

    @property
    def checkpoint_file(self) -> Path:
        """The state from which an interrupted run goes on."""
        return self.progress / "checkpoint.pt"

    @property
    def files(self) -> list[Path]:
        """The files of a run that came to its end, as far as its task and study have them. The first one says so."""
        return [
            *(self.summary_file, self.config_file, self.metrics_file, self.provenance_file),
            *(self.attention_file, self.samples_file, self.correct_file, self.weights_file),
        ]

    def locked(self) -> AbstractContextManager[None]:
        """Held by the process that writes the run. Raises KvformerError where another one holds it."""
        return hold(self.lock_file, LOCK_SECONDS, "another process is training this run")

    def forget_outcome(self) -> None:
        """Remove the files of an earlier training, also those not written to their end; for the process that holds the
        lock."""
        for path in (*self.files, self.failure_file):
            path.unlink(missing_ok=True)
        remove_partial(self.path)

    def clear_progress(self) -> None:
        """Remove the files of a run in progress, as far as possible; for the process that holds the lock."""
        for path in self.progress.iterdir():
            if path != owner_file(self.lock_file):
                with suppress(OSError):
                    path.unlink()

    def remove_progress(self) -> None:
        """Remove the folder of a run in progress, after its files were removed and its lock was released.

        Some file systems (NFS, FUSE, SMB) show a removed file until a moment after it was closed. If the folder cannot
        be removed, one line says so: the run is finished all the same.
        """
        for pause in (0.0, 0.01, 0.1, 1.0):
            time.sleep(pause)
            try:
                return self.progress.rmdir()
            except OSError as error:
                reason = error.strerror
        print(f"{self.progress}: cannot be removed ({reason}); the run is finished, delete the folder", flush=True)
        return None

    def give_up(self) -> None:
        """Leave the files of a finished run empty: the run failed, and what waits for them goes on without it."""
        for path in (self.config_file, self.metrics_file, self.provenance_file, self.attention_file, self.summary_file):
            write_bytes(path, b"")

    @property
    def given_up(self) -> bool:
        """Whether `give_up` was called since the run was last started."""
        return self.summary_file.is_file() and not self.summary_file.stat().st_size

    def summary(self) -> Summary | None:
        """How the run ended."""
        return Summary.read(self.summary_file)

    def provenance(self) -> Provenance | None:
        """Where the run was trained."""
        return Provenance.read(self.provenance_file)

    def failure(self) -> Failure | None:
        """The error that stopped the run."""
        return Failure.read(self.failure_file)

    def configuration(self) -> RunConfiguration | None:
        """The resolved configuration."""
        return RunConfiguration.read(self.config_file)

    def samples(self) -> list[dict[str, str]]:
        """Texts that the model wrote; empty where the file is missing or damaged."""
        try:
            content = read_json(self.samples_file)
        except (OSError, ValueError):
            return []
        return [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []

    def outcome(self, expected_hash: str) -> tuple[RunStatus, Summary | None]:
        """The status of the run for a study that expects this configuration, and its summary if it came to an end.

        A damaged summary, and the empty one of `give_up`, count as failed.
        """
        summary = self.summary()
        if summary is not None:
            return (summary.status, summary) if summary.config_hash == expected_hash else ("stale", None)
        configuration = self.configuration()
        if configuration is not None and (configuration.hash or expected_hash) != expected_hash:
            return "stale", None
        failure = self.failure()
        if failure is not None and failure.type == NOT_STARTED:
            return "not started", None
        if self.summary_file.exists() or self.failure_file.exists():
            return "failed", None
        return "missing", None
