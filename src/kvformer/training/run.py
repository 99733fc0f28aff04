"""One run from its configuration to its folder of files."""

import io
import json
import os
import platform
import sys
import time
import traceback
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from kvformer.config.run import RunConfig
from kvformer.errors import Interrupted, KvformerError
from kvformer.files import write_bytes
from kvformer.models.fast.linear import library
from kvformer.models.fast.memory import keep_memory
from kvformer.records.provenance import DataRecord, Provenance
from kvformer.records.run import Failure, ParameterCounts, Primary, RunConfiguration, RunFolder, Summary
from kvformer.spec.formulas import parameters, total_attention_parameters
from kvformer.spec.variants import VARIANTS
from kvformer.training.diagnostics import attention_maps
from kvformer.training.gpus import own_device
from kvformer.training.identity import cell_digest
from kvformer.training.linear_maps import settle_linear
from kvformer.training.loop import Outcome, Report, Trainer, silent
from kvformer.training.precision import set_precision
from kvformer.training.provenance import git_state, package_versions, processor, utc_now
from kvformer.training.samples import sample_texts
from kvformer.training.signals import StopSignals
from kvformer.training.stepping import KeptStep


def train_run(
    run: RunConfig,
    out: Path,
    data_folder: Path,
    device: str | torch.device = "auto",
    report: Report = silent,
    keep_weights: bool = False,
    checkpoint_seconds: float = 60.0,
    compiler_mode: str | None = None,
    started: float | None = None,
    gpus: int = 0,
    stop: StopSignals | None = None,
    graphs: bool = True,
    kept: KeptStep | None = None,
) -> Summary:
    """Train a run, write its folder `out` and return its summary. An interrupted run goes on where it stopped.

    device: a name for `own_device`, or a device that the caller has claimed. compiler_mode: compile the model's
    training steps by torch.compile with this mode. started: `time.monotonic()` when the process began, so that
    start-up is counted. gpus: how many were asked for; if there is none, a line says so. stop: the signals that the
    caller listens to, where it trains several runs. graphs: whether steps are recorded as CUDA graphs; the results are
    the same. kept: the recorded step of the caller's last run, and then of this one.

    Raises:
        Interrupted: a signal asked to stop; the state is saved.
        KvformerError: another process trains in this folder, or there is not enough memory.
        Exception: any other error. Unless the run was interrupted or locked, `failure.json` says why it ended.
    """
    started = time.monotonic() if started is None else started
    folder = RunFolder(out)
    with folder.locked(), nullcontext(stop) if stop else StopSignals() as stop:
        folder.forget_outcome()
        trainer = None
        try:
            with own_device(device) as chosen:
                _set_up(run, chosen, data_folder, gpus)
                trainer = Trainer(run, folder, data_folder, chosen, report, compiler_mode, graphs, kept)
                startup = time.monotonic() - started
                outcome = trainer.train(stop, checkpoint_seconds)
                summary = _summary(trainer, outcome, startup)
                provenance = _provenance(trainer, summary.data, started)
                _write_results(trainer, outcome, summary, provenance, keep_weights)
        except Exception as error:
            if not isinstance(error, Interrupted):
                _record_failure(error, folder, run, trainer.state.attempts if trainer else 1)
            raise
        folder.clear_progress()
    folder.remove_progress()
    return summary


def _set_up(run: RunConfig, device: torch.device, data_folder: Path, gpus: int) -> None:
    """Let this process compute as the run asks for; say so where it gets no GPU."""
    if gpus and device.type == "cpu":
        print(f"warning: resources.gpu: {gpus}, but this run trains on the CPU", flush=True)
    make_deterministic(run.threads)
    set_precision(run.training.precision, device)
    keep_memory()
    if device.type == "cpu":
        settle_linear(data_folder)


def make_deterministic(threads: int) -> None:
    """Let this process compute the same in each run, with this many threads."""
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # torch.use_deterministic_algorithms(True) would also import the compiler to configure it: two seconds per run.
    torch._C._set_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _record_failure(error: Exception, folder: RunFolder, run: RunConfig, attempt: int) -> None:
    """Write down why the run ended. Raises KvformerError where there is not enough memory."""
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
    kind, trace, cell = type(error).__name__, traceback.format_exc(), None if memory else cell_digest(run)
    failure = Failure(type=kind, error=str(error), time=utc_now(), attempt=attempt, trace=trace, cell=cell)
    with suppress(OSError):  # a full disk must not hide what went wrong
        failure.write(folder.failure_file)
    if memory:
        raise KvformerError(
            f"{folder.path}: the run needs more memory than there is ({error}); make the model or the batches smaller"
        ) from None


def _summary(trainer: Trainer, outcome: Outcome, startup: float) -> Summary:
    run, task, state = trainer.run, trainer.run.definition, trainer.state
    seconds = {"startup": startup, **state.seconds}
    seconds["total"] = sum(seconds.values())
    architecture, variant, shape = task.architecture, VARIANTS[run.variant], trainer.data.shape
    return Summary(
        status=outcome.status,
        task=run.task,
        family=task.family,
        setting=run.setting,
        variant=run.variant,
        seed=run.seed,
        protocol=run.protocol,
        config_hash=run.hash,
        primary=Primary(metric=f"{trainer.data.reported_split}/{task.metric}", goal=task.goal),
        metrics=outcome.metrics,
        parameters=ParameterCounts(
            total=sum(parameter.numel() for parameter in trainer.model.parameters()),
            attention=total_attention_parameters(architecture, variant, run.model, shape),
            formula=parameters(architecture, variant, run.model, shape),
        ),
        steps=state.step,
        selected_step=outcome.selected_step,
        seconds={name: round(value, 4) for name, value in seconds.items()},
        samples_per_second=round(state.step * run.training.batch_size / max(state.seconds["stepping"], 1e-9), 2),
        data=[DataRecord(**record) for record in trainer.data.records],
    )


def _provenance(trainer: Trainer, data: list[DataRecord], started: float) -> Provenance:
    run, device, gpu = trainer.run, trainer.device, trainer.device.type == "cuda"
    return Provenance(
        git=git_state(),
        packages=package_versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=processor(),
        gpu=torch.cuda.get_device_name(device) if gpu else None,
        cuda=torch.version.cuda if gpu else None,
        threads=run.threads,
        device=device.type,
        precision=run.training.precision,
        compile=trainer.compiler_mode,
        cuda_graph=trainer.stepper.recorded if trainer.stepper is not None else None,
        linear=None if gpu else library(),
        data=data,
        start=utc_now(before=time.monotonic() - started),
        end=utc_now(),
        attempts=trainer.state.attempts,
        command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]),
        identity=trainer.identity,
    )


def _write_results(
    trainer: Trainer, outcome: Outcome, summary: Summary, provenance: Provenance, keep_weights: bool
) -> None:
    """Write every file of the run's folder atomically, the summary last: a folder with a summary is complete."""
    run, folder, model = trainer.run, trainer.folder, trainer.model
    if outcome.correct is not None:
        outcome.correct.write(folder.correct_file)
    RunConfiguration(**run.model_dump(mode="json"), hash=run.hash).write(folder.config_file)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **attention_maps(model, trainer.objective, trainer.batches))  # type: ignore[arg-type]
    write_bytes(folder.attention_file, buffer.getvalue())
    if summary.status == "finished" and (samples := sample_texts(model, trainer.objective, trainer.batches)):
        write_bytes(folder.samples_file, json.dumps(samples, indent=1, ensure_ascii=False).encode())
    if keep_weights:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        write_bytes(folder.weights_file, safetensors.torch.save(weights))
    provenance.write(folder.provenance_file)
    write_bytes(folder.metrics_file, folder.progress_metrics_file.read_bytes())
    summary.write(folder.summary_file)
