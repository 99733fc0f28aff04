"""The training loop of one run."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn

from kvformer.config.run import RunConfig
from kvformer.errors import CheckpointError, Interrupted
from kvformer.models.build import build_model
from kvformer.records.correct import Correct
from kvformer.records.manifest import load_manifest
from kvformer.records.metrics import MetricLog
from kvformer.records.run import RunFolder
from kvformer.training.batches import Batches
from kvformer.training.checkpoint import Checkpoint, State
from kvformer.training.evaluation import Evaluator
from kvformer.training.graphs import recorder
from kvformer.training.identity import identity_of
from kvformer.training.objectives import OBJECTIVES
from kvformer.training.optimizers import make_optimizer, make_planned_optimizer
from kvformer.training.schedules import learning_rate
from kvformer.training.signals import StopSignals
from kvformer.training.stepping import KeptStep, PlannedStepper, Stepper

Report = Callable[[int, int, dict[str, float]], None]
"""Called with the step, the number of steps and the newest values, to show progress."""


def silent(step: int, steps: int, values: dict[str, float]) -> None:
    """A report that shows nothing."""


@dataclass
class Outcome:
    """How training ended: the final metrics, the step after which the model had the selected weights, and which
    examples these get right."""

    status: Literal["finished", "diverged"]
    metrics: dict[str, float]
    selected_step: int
    correct: Correct | None


class Trainer:
    """Trains one run in its folder. After `train`, `model` has the selected weights and is in evaluation mode.

    graphs: whether steps are recorded as a CUDA graph where that is possible. The results are the same. kept: the
        recorded step of an earlier run; this run's is left there.
    """

    def __init__(
        self,
        run: RunConfig,
        folder: RunFolder,
        data_folder: Path,
        device: torch.device,
        report: Report = silent,
        compiler_mode: str | None = None,
        graphs: bool = True,
        kept: KeptStep | None = None,
    ) -> None:
        self.run, self.folder, self.device, self.report = run, folder, device, report
        self.compiler_mode, self.graphs, self.kept = compiler_mode, graphs, kept or KeptStep()
        manifests = {name: load_manifest(data_folder / name, verify=True) for name in run.datasets}
        self.data = run.definition.load(run, manifests)
        self.batches = Batches(run, self.data, device)
        self.objective = OBJECTIVES[run.definition.objective](run, self.data)
        self.evaluator = Evaluator(run, self.batches, self.objective)
        training = run.training
        self.steps = training.steps or max(1, round((training.epochs or 0) * self.batches.steps_per_epoch))
        evaluations = min(training.evaluations, self.steps)
        self.evaluate_at = {round(self.steps * (i + 1) / evaluations) for i in range(evaluations)}
        digests = [record["sha256"] for record in self.data.records]
        # Drawn data follow from configuration and code.
        self.identity = identity_of(run, digests if run.datasets else [], device.type, compiler_mode)
        parts = {**self.identity.model_dump(exclude={"digest"}), "data": digests}
        self.checkpoint = Checkpoint(folder, parts, device)
        self.earlier = self.kept.take(run, self.data)
        self._start()

    def _start(self) -> None:
        self.model = build_model(self.run, self.data.shape).to(self.device)
        self.optimizer = (make_planned_optimizer if self.planned else make_optimizer)(self.run, self.model)
        mode = self.compiler_mode
        self.training_model = self.model if mode is None else cast(nn.Module, torch.compile(self.model, mode=mode))
        self.state = State(loss_sum=torch.zeros((), device=self.device))
        self.stepper: Stepper | None = None

    def train(self, stop: StopSignals, checkpoint_seconds: float = 60.0) -> Outcome:
        """Do all steps that are left, then test.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
        """
        self._resume()
        state, log = self.state, MetricLog(self.folder.progress_metrics_file, self.state.metrics_bytes)
        self._save(log)
        saved = time.monotonic()
        while state.step < self.steps and not state.diverged:
            begin = time.perf_counter()
            self.train_step()
            due = state.step in self.evaluate_at or state.step % self.run.training.record_every == 0
            if due and self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # a GPU still works on the steps when the CPU has issued them
            state.seconds["stepping"] += time.perf_counter() - begin
            if due:
                self._record(log)
            stopped_by = stop.received
            if stopped_by is not None or time.monotonic() - saved > checkpoint_seconds:
                self._save(log)
                saved = time.monotonic()
            if stopped_by is not None:
                log.close()
                raise Interrupted(f"stopped by {stopped_by.name} after step {state.step}; state saved")
        return self._finish(log)

    @property
    def planned(self) -> bool:
        """Whether the steps follow a plan on the device: on GPUs, where the batches of a task have fixed shapes."""
        return (
            recorder(self.device) is not None
            and self.compiler_mode is None
            and self.run.definition.architecture != "seq2seq"
            and self.batches.resident
        )

    def train_step(self) -> None:
        """One optimisation step."""
        if self.stepper is None:
            self.stepper = self._stepper()
        self.stepper.step(self.state.step)
        self.state.loss_count += 1
        self.state.step += 1

    def _stepper(self) -> Stepper:
        """What takes the steps, once weights, moments and sums of a checkpoint are loaded."""
        parts = (self.run, self.model, self.training_model, self.optimizer, self.batches, self.objective, self.steps)
        if not self.planned:
            return Stepper(*parts, self.state.loss_sum)
        stepper = PlannedStepper(*parts, self.state.loss_sum)
        if self.earlier is None:
            stepper.follow(recorder(self.device) if self.graphs else None)
            return stepper
        self.earlier.become(stepper)
        stepper, self.earlier = self.earlier, None
        self.model, self.training_model, self.optimizer = stepper.model, stepper.compiled, stepper.optimizer
        self.state.loss_sum = stepper.loss_sum
        return stepper

    def _record(self, log: MetricLog) -> None:
        """Record the mean training loss since the last point, and validate where an evaluation is due."""
        state, begin = self.state, time.perf_counter()
        values = {"train/loss": float(state.loss_sum) / state.loss_count}
        state.loss_sum.zero_()
        state.loss_count = 0
        state.diverged = not math.isfinite(values["train/loss"])
        if state.step in self.evaluate_at and not state.diverged:
            values["train/learning_rate"] = learning_rate(state.step - 1, self.steps, self.run.training, self.run.model)
            values |= self.evaluator.validate(self.model)
            if self.run.training.select == "best":
                state.best = self.evaluator.better(state.best, self.model, state.step, values)
            state.seconds["evaluation"] += time.perf_counter() - begin
            begin = time.perf_counter()
        self._write(log, values)
        state.latest |= values
        self.report(state.step, self.steps, values)
        state.seconds["recording"] += time.perf_counter() - begin

    def _write(self, log: MetricLog, values: dict[str, float]) -> None:
        state = self.state
        log.write(state.step, state.step / self.batches.steps_per_epoch, state.seconds["stepping"], values)

    def _finish(self, log: MetricLog) -> Outcome:
        """Test the selected weights; the test split is read here and nowhere else."""
        state, begin = self.state, time.perf_counter()
        selected, correct = state.step, None
        metrics = {key: value for key, value in state.latest.items() if not key.startswith("diagnostics/")}
        if state.best is not None and not state.diverged:
            self.model.load_state_dict(state.best["weights"])
            selected = state.best["step"]
            metrics |= state.best["validation"]
        # The last update may be the one that diverges, after which no training loss is measured.
        diverged = state.diverged or not math.isfinite(metrics["validation/loss"])
        if not diverged:
            values, correct = self.evaluator.reported(self.model, metrics)
            metrics |= values
            if self.data.reported_split == "test":
                self._write(log, values)
        log.close()
        self.model.eval()
        self.kept.keep(self.stepper)
        state.seconds["evaluation"] += time.perf_counter() - begin
        return Outcome("diverged" if diverged else "finished", metrics, selected, correct)

    def _resume(self) -> None:
        """Go on from the checkpoint if there is one that can be used."""
        try:
            saved = self.checkpoint.restore(self.model, self.optimizer)
        except CheckpointError as error:
            print(f"{error}; starting from step 0", flush=True)
            self._start()
            return
        if saved is not None:
            self.state = saved
            saved.attempts += 1
            if saved.step:
                print(f"resuming at step {saved.step} of {self.steps} (attempt {saved.attempts})", flush=True)

    def _save(self, log: MetricLog) -> None:
        begin = time.perf_counter()
        self.state.metrics_bytes = log.sync()
        self.checkpoint.save(self.model, self.optimizer, self.state)
        self.state.seconds["recording"] += time.perf_counter() - begin
