"""One run from its configuration to its folder of files."""

import ctypes
import io
import json
import os
import platform
import shutil
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from filelock import FileLock, Timeout

from kvformer.config.run import RunConfig
from kvformer.errors import ConfigError, Interrupted, KvformerError
from kvformer.files import remove_partial, write_bytes, write_json
from kvformer.training.diagnostics import attention_maps
from kvformer.training.loop import Outcome, Report, Trainer, tensors_of
from kvformer.training.records import git_state, package_versions, processor, utc_now
from kvformer.training.samples import generate_samples
from kvformer.training.signals import StopSignals

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt."""
LOCK_SECONDS = 10.0
"""How long a process waits for another one that trains in the same folder: long enough for one that is ending."""


def choose_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one. Raises ConfigError where `cuda` is asked for and not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("execution.device: 'cuda' is asked for, but PyTorch sees no GPU here; allowed: auto, cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def train_run(
    run: RunConfig,
    out: Path,
    data_folder: Path,
    device: str = "auto",
    report: Report = lambda step, steps, values: None,
    keep_weights: bool = False,
    checkpoint_seconds: float = 60.0,
    compiler_mode: str | None = None,
    started: float | None = None,
) -> dict[str, Any]:
    """Train a run and write its folder; returns the summary. A run that was interrupted goes on where it stopped.

    compiler_mode: compile the model's training steps by torch.compile with this mode. started: `time.monotonic()`
    when the process began, so that start-up is counted. Raises Interrupted after a stop signal, KvformerError where
    another process trains in this folder; any other error leaves `failure.json` in the folder, lack of memory (a
    KvformerError) among them.
    """
    started = started if started is not None else time.monotonic()
    progress = out / "progress"
    progress.mkdir(parents=True, exist_ok=True)
    lock = FileLock(progress / "lock")
    try:
        held = lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise KvformerError(f"{out}: another process is training this run ({lock.lock_file} is locked)") from None
    with held, StopSignals() as stop:
        for outdated in ("failure.json", "summary.json"):
            (out / outdated).unlink(missing_ok=True)
        remove_partial(out)
        trainer = None
        try:
            where = choose_device(device)
            _make_deterministic(run.threads)
            keep_memory()
            trainer = Trainer(run, progress, data_folder, where, report, compiler_mode)
            startup = time.monotonic() - started
            outcome = trainer.train(stop, checkpoint_seconds)
            summary = _summary(trainer, outcome, startup)
            provenance = _provenance(trainer, outcome, where, started)
            _write_results(run, out, trainer, outcome, summary, provenance, keep_weights)
        except Interrupted:
            raise
        except Exception as error:
            with suppress(OSError):  # a full disk must not hide what went wrong
                write_json(out / "failure.json", _failure(error, trainer.attempts if trainer is not None else 1))
            if _lacks_memory(error):
                raise KvformerError(
                    f"{out}: the run needs more memory than there is ({error}); make the model or the batches smaller"
                ) from None
            raise
        shutil.rmtree(progress)
    return summary


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _failure(error: Exception, attempt: int) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "error": str(error),
        "time": utc_now(),
        "attempt": attempt,
        "trace": traceback.format_exc(),
    }


def _make_deterministic(threads: int) -> None:
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As torch.use_deterministic_algorithms(True), without importing the compiler to set it too: two seconds a training.
    torch._C._set_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_memory() -> None:
    """Keep freed memory in this process, where the C library can be told to (glibc).

    It would return every large tensor to the system at once, which clears the pages of the next one again: in
    translation half of a step.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _summary(trainer: Trainer, outcome: Outcome, startup: float) -> dict[str, Any]:
    run, definition = trainer.run, trainer.run.definition
    seconds = {"startup": startup, **outcome.seconds}
    seconds["total"] = sum(seconds.values())
    return {
        "status": outcome.status,
        "task": run.task,
        "family": definition.family,
        "setting": run.setting,
        "variant": run.variant,
        "seed": run.seed,
        "protocol": run.protocol,
        "config_hash": run.hash,
        "primary": {"metric": f"{trainer.data.reported_split}/{definition.metric}", "goal": definition.goal},
        "metrics": {key: value if np.isfinite(value) else str(value) for key, value in outcome.metrics.items()},
        "parameters": trainer.parameter_counts(),
        "steps": outcome.steps,
        "selected_step": outcome.selected_step,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "samples_per_second": round(
            outcome.steps * run.training.batch_size / max(outcome.seconds["stepping"], 1e-9), 2
        ),
        "data": trainer.data.records,
    }


def _provenance(trainer: Trainer, outcome: Outcome, device: torch.device, started: float) -> dict[str, Any]:
    return {
        "git": git_state(),
        "packages": package_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": trainer.run.threads,
        "device": device.type,
        "precision": trainer.run.training.precision,
        "compile": trainer.compiler_mode,
        "data": trainer.data.records,
        "start": utc_now(before=time.monotonic() - started),
        "end": utc_now(),
        "attempts": outcome.attempts,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]),
    }


def _write_results(
    run: RunConfig,
    out: Path,
    trainer: Trainer,
    outcome: Outcome,
    summary: dict[str, Any],
    provenance: dict[str, Any],
    keep_weights: bool,
) -> None:
    """Write every file of the run's folder, each atomically, the summary last: where it stands, the rest is
    complete."""
    write_json(out / "config.json", {**run.model_dump(mode="json"), "hash": run.hash})
    arrays = attention_maps(outcome.model, outcome.objective, outcome.batches)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(out / "attention.npz", buffer.getvalue())
    if run.definition.generates and outcome.status == "finished":
        samples = generate_samples(outcome.model, run, outcome.objective, outcome.batches)
        write_bytes(out / "samples.json", json.dumps(samples, indent=1, ensure_ascii=False).encode())
    if keep_weights:
        write_bytes(out / "model.safetensors", safetensors.torch.save(tensors_of(outcome.model)))
    write_json(out / "provenance.json", provenance)
    write_bytes(out / "metrics.jsonl", (trainer.progress / "metrics.jsonl").read_bytes())
    write_json(out / "summary.json", summary)
