"""The training loop of one run, and everything around it that makes a run exact: seeds, resume, records."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from kvformer.config.run import RunConfig
from kvformer.dependencies import code_digest
from kvformer.errors import CheckpointError, Interrupted
from kvformer.models.build import build_model
from kvformer.records.manifest import load_manifest
from kvformer.seeding import integer_seed
from kvformer.spec.formulas import parameters, total_attention_parameters
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import MODULES
from kvformer.training.batches import Batches
from kvformer.training.checkpoint import load_checkpoint, save_checkpoint
from kvformer.training.diagnostics import diagnose
from kvformer.training.objectives import OBJECTIVES, Objective
from kvformer.training.optimizers import make_optimizer
from kvformer.training.records import MetricLog
from kvformer.training.schedules import first_beta, learning_rate
from kvformer.training.signals import StopSignals

Report = Callable[[int, int, dict[str, float]], None]
"""Called with the step, the number of steps and the newest values, to show progress."""


@dataclass
class Outcome:
    """What a training leaves: the model with the selected weights, metrics, and how the time was spent (seconds)."""

    model: nn.Module
    batches: Batches
    objective: Objective
    status: str
    metrics: dict[str, float]
    steps: int
    selected_step: int
    seconds: dict[str, float]
    attempts: int


class Trainer:
    """Trains one run in `progress` (a folder that exists only until the run is finished)."""

    def __init__(
        self,
        run: RunConfig,
        progress: Path,
        data_folder: Path,
        device: torch.device,
        report: Report,
        compiler_mode: str | None = None,
    ) -> None:
        self.run, self.progress, self.device, self.report = run, progress, device, report
        self.compiler_mode = compiler_mode
        manifests = {name: load_manifest(data_folder / name, verify=True) for name in run.datasets}
        self.data = run.definition.load(run, manifests)
        self.batches = Batches(run, self.data, device)
        self.objective = OBJECTIVES[run.definition.objective](run, self.data)
        self._start_afresh()
        training = run.training
        self.steps = training.steps or max(1, round((training.epochs or 0) * self.batches.steps_per_epoch))
        evaluations = min(training.evaluations, self.steps)
        self.evaluate_at = {round(self.steps * (i + 1) / evaluations) for i in range(evaluations)}
        self.step = 0
        self.elapsed = self.evaluating = self.recording = 0.0
        self.attempts = 1
        self.loss_sum, self.loss_count = torch.zeros((), device=device), 0
        self.best: dict[str, Any] | None = None
        self.last: dict[str, float] = {}
        self.diverged = False

    def _start_afresh(self) -> None:
        self.model = build_model(self.run, self.data.shape).to(self.device)
        self.optimizer = make_optimizer(self.run, self.model)
        mode = self.compiler_mode
        self.training_model = self.model if mode is None else cast(nn.Module, torch.compile(self.model, mode=mode))

    def train(self, stop: StopSignals, checkpoint_seconds: float = 60.0) -> Outcome:
        """Run all steps that are left, then test. Raises Interrupted when a signal asks to stop; the state is saved
        then."""
        log = MetricLog(self.progress / "metrics.jsonl", self._resume())
        self._save(log)
        saved = time.monotonic()
        while self.step < self.steps and not self.diverged:
            begin = time.perf_counter()
            self._step()
            if self._due() and self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # steps run ahead of the clock
            self.elapsed += time.perf_counter() - begin
            self._record(log)
            if stop.received is not None or time.monotonic() - saved > checkpoint_seconds:
                self._save(log)
                saved = time.monotonic()
            if stop.received is not None:
                log.close()
                raise Interrupted(f"stopped by {stop.received.name} after step {self.step}; state saved")
        return self._finish(log)

    def _step(self) -> None:
        run = self.run
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps, run.training, run.model)
            group["betas"] = (first_beta(self.step, self.steps, run.training), run.training.betas[1])
        # All randomness of a step (dropout, augmentation) follows from the step: no generator state needs to be kept.
        seed = integer_seed(run.task, "step", self.step, run.seed)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed keeps a stack trace a call where no GPU is used
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        batch = self.batches.training(self.step)
        with self._autocast():
            loss = self.objective.loss(self.training_model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if run.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), run.training.clip_norm)
        self.optimizer.step()
        self.loss_sum += loss.detach()
        self.loss_count += 1
        self.step += 1

    def _due(self) -> bool:
        """Whether there is something to record after the last step."""
        return self.step in self.evaluate_at or self.step % self.run.training.record_every == 0

    def _record(self, log: MetricLog) -> None:
        if not self._due():
            return
        begin = time.perf_counter()
        values = {"train/loss": float(self.loss_sum) / self.loss_count}
        self.loss_sum.zero_()
        self.loss_count = 0
        self.diverged = not math.isfinite(values["train/loss"])
        if self.step in self.evaluate_at and not self.diverged:
            values["train/learning_rate"] = self.optimizer.param_groups[0]["lr"]
            values |= self._measure("validation")
            values |= {f"diagnostics/{k}": v for k, v in diagnose(self.model, self.objective, self.batches).items()}
            self._keep_best(values)
            self.evaluating += time.perf_counter() - begin
            begin = time.perf_counter()
        log.write(self.step, self.step / self.batches.steps_per_epoch, self.elapsed, values)
        self.last |= values
        self.report(self.step, self.steps, values)
        self.recording += time.perf_counter() - begin

    def _measure(self, split: str) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad(), self._autocast():
            values = self.objective.measure(self.model, self.batches.evaluation(split), split)
        self.model.train()
        return {f"{split}/{name}": value for name, value in values.items()}

    def _keep_best(self, values: dict[str, float]) -> None:
        if self.run.training.select != "best":
            return
        metric = f"validation/{self.run.definition.metric}"
        if metric not in values:
            metric = "validation/loss"
        sign = 1 if self.run.definition.goal == "max" and metric != "validation/loss" else -1
        score = sign * values[metric] if math.isfinite(values[metric]) else -math.inf
        if self.best is None or score > self.best["score"]:
            weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            validation = {key: value for key, value in values.items() if key.startswith("validation/")}
            self.best = {"score": score, "step": self.step, "weights": weights, "validation": validation}

    def _finish(self, log: MetricLog) -> Outcome:
        """Test the selected weights; the test split is read here and nowhere else."""
        begin = time.perf_counter()
        selected = self.step
        metrics = {key: value for key, value in self.last.items() if not key.startswith("diagnostics/")}
        if not self.diverged:
            if self.best is not None:
                self.model.load_state_dict(self.best["weights"])
                selected = self.best["step"]
                metrics |= self.best["validation"]
            values = self._reported(metrics)
            metrics |= values
            if self.data.reported_split == "test":
                log.write(self.step, self.step / self.batches.steps_per_epoch, self.elapsed, values)
        log.close()
        self.model.eval()
        self.evaluating += time.perf_counter() - begin
        return Outcome(
            model=self.model,
            batches=self.batches,
            objective=self.objective,
            status="diverged" if self.diverged else "finished",
            metrics=metrics,
            steps=self.step,
            selected_step=selected,
            seconds={"stepping": self.elapsed, "evaluation": self.evaluating, "recording": self.recording},
            attempts=self.attempts,
        )

    def _reported(self, metrics: dict[str, float]) -> dict[str, float]:
        """Metrics of the reported split. Where that is the validation split, they have been measured already."""
        split, splits = self.data.reported_split, self.data.splits
        if splits[split] is not splits["validation"]:
            return self._measure(split)
        return {
            f"{split}/{key.removeprefix('validation/')}": value
            for key, value in metrics.items()
            if key.startswith("validation/")
        }

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of the model, counted, and by the closed formula."""
        run, variant = self.run, VARIANTS[self.run.variant]
        architecture, shape = run.definition.architecture, self.data.shape
        return {
            "total": sum(parameter.numel() for parameter in self.model.parameters()),
            "attention": total_attention_parameters(architecture, variant, run.model, shape),
            "formula": parameters(architecture, variant, run.model, shape),
        }

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.run.training.precision == "bf16")

    def _resume(self) -> int:
        """Restore a saved state and return the size of the metrics written until then; 0 for a fresh start."""
        path = self.progress / "checkpoint.pt"
        try:
            state = load_checkpoint(path, self._identity(), self.device)
            if state is None:
                return 0
            metrics = self.progress / "metrics.jsonl"
            if not metrics.is_file() or metrics.stat().st_size < state["metrics_bytes"]:
                raise CheckpointError(f"{path}: {metrics.name} beside it lacks points that belong to it")
            try:
                self.model.load_state_dict(state["model"])
                self.optimizer.load_state_dict(state["optimizer"])
            except (RuntimeError, ValueError, KeyError):
                raise CheckpointError(f"{path}: does not fit the model of this version of kvformer") from None
        except CheckpointError as error:
            print(f"{error}; starting afresh", flush=True)
            self._start_afresh()
            return 0
        self.step, self.best, self.last, self.diverged = (state[key] for key in ("step", "best", "last", "diverged"))
        self.elapsed, self.evaluating, self.recording = state["seconds"]
        self.loss_sum, self.loss_count = state["loss_sum"], state["loss_count"]
        self.attempts = state["attempts"] + 1
        if self.step:
            print(f"resuming at step {self.step} of {self.steps} (attempt {self.attempts})", flush=True)
        return int(state["metrics_bytes"])

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be of use."""
        return {
            "configuration": self.run.hash,
            "data": [record["sha256"] for record in self.data.records],
            "variant": VARIANTS[self.run.variant].definition,
            "code": code_digest(MODULES[self.run.task]),
        }

    def _save(self, log: MetricLog) -> None:
        begin = time.perf_counter()
        state = {
            "identity": self._identity(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "last": self.last,
            "diverged": self.diverged,
            "seconds": (self.elapsed, self.evaluating, self.recording),
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "attempts": self.attempts,
            "metrics_bytes": log.sync(),
        }
        save_checkpoint(self.progress / "checkpoint.pt", state)
        self.recording += time.perf_counter() - begin


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """The model's state dict, on the CPU and contiguous, as it is saved."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
