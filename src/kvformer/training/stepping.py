"""Optimisation steps: eager ones, and planned ones, which a GPU replays as one CUDA graph.

Both do the same work (`Stepper.learn`). A planned step gets what depends on the step from tensors on the device: the
rows of its batch and the rates of the optimiser, uploaded for many steps at once. Nothing waits for the device.
"""

import numpy as np
import torch
from torch import Tensor, nn

from kvformer.config.run import RunConfig
from kvformer.seeding import integer_seed
from kvformer.tasks.base import TaskData
from kvformer.training.batches import Batch, Batches
from kvformer.training.graphs import Action, Recorder, recorded
from kvformer.training.identity import cell_digest
from kvformer.training.objectives import Objective
from kvformer.training.optimizers import PlannedAdam, rates
from kvformer.training.precision import autocast
from kvformer.training.schedules import first_beta, learning_rate

PLANNED = 64
"""Steps whose rows and rates are uploaded at once."""


class Stepper:
    """Takes the optimisation steps of a run, one operation at a time.

    model: what is trained. compiled: the same model, as it is called in training. steps: of the whole run.
    loss_sum: a scalar on the device, to which each step adds its loss.
    """

    recorded = False
    """Whether steps are replayed as a graph."""

    def __init__(
        self,
        run: RunConfig,
        model: nn.Module,
        compiled: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        objective: Objective,
        steps: int,
        loss_sum: Tensor,
    ) -> None:
        self.run, self.model, self.compiled, self.optimizer = run, model, compiled, optimizer
        self.batches, self.objective, self.steps, self.loss_sum = batches, objective, steps, loss_sum

    def step(self, step: int) -> None:
        """The step with this number, from 0."""
        training = self.run.training
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.steps, training, self.run.model)
            group["betas"] = (first_beta(step, self.steps, training), training.betas[1])
        self.seed(step)
        self.learn(self.batches.training(step))

    def seed(self, step: int) -> None:
        """Dropout and augmentation depend on the step alone, so that no generator state needs to be saved."""
        seed = integer_seed(self.run.task, "step", step, self.run.seed)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed keeps a stack trace per call if there is no GPU
        if self.batches.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def learn(self, batch: Batch) -> None:
        """Forward pass, gradients, update. It must not wait for the device, nor read anything from it."""
        with autocast(self.run, self.batches.device):
            loss = self.objective.loss(self.compiled, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.run.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.run.training.clip_norm)
        self.optimizer.step()
        self.loss_sum += loss.detach()


class PlannedStepper(Stepper):
    """Takes steps that follow a plan on the device, recorded as a graph where there is a `record`.

    Batches of another size than the recorded one, such as the last one of an epoch, are not replayed.
    """

    optimizer: PlannedAdam

    def follow(self, record: Recorder | None) -> None:
        """Get ready; `record` is what records a step."""
        device = self.batches.device
        self.optimizer.bind()
        self.record = record
        self.replay: Action | None = None
        self.first = self.next = 0
        self.plan = np.empty((0, 0), np.int64)
        self.place = torch.zeros(1, dtype=torch.long, device=device)
        self.rates = torch.zeros(PLANNED, len(self.optimizer.rates), dtype=self.optimizer.rates.dtype, device=device)
        self.rows = torch.zeros(PLANNED, self.batches.full_size, dtype=torch.long, device=device)

    @torch.no_grad()
    def become(self, other: "PlannedStepper") -> None:
        """Take the steps of another run of the same cell: its values are copied to where the recorded step reads
        them."""
        tensors, others = ([*each.model.parameters(), *each.model.buffers(), each.loss_sum] for each in (self, other))
        for tensor, value in zip(tensors, others, strict=True):
            tensor.copy_(value)
        self.model.train()
        self.optimizer.copy_from(other.optimizer)
        other.batches.take_over(self.batches)
        self.run, self.batches, self.objective = other.run, other.batches, other.objective
        self.next = -1  # what is planned was another run's

    def step(self, step: int) -> None:
        """The step with this number, from 0."""
        if step != self.next or step >= self.first + len(self.plan):
            self._upload(step)
        full = self.plan.shape[1] == self.rows.shape[1]
        if full and self.replay is None:
            self.replay = self._recorded()
        self.seed(step)
        if full and self.replay is not None:
            self.replay()
        else:
            self._learn_from(torch.from_numpy(self.plan).to(self.rows.device))
        self.next = step + 1

    def _upload(self, step: int) -> None:
        """Plan the steps from this one on."""
        self.plan = self.batches.plan(step, min(PLANNED, self.steps - step))
        count, size = self.plan.shape
        if size == self.rows.shape[1]:
            self.rows[:count].copy_(torch.from_numpy(self.plan))
        planned = [rates(step + ahead, self.steps, self.run) for ahead in range(count)]
        self.rates[:count].copy_(torch.tensor(planned, dtype=self.rates.dtype))
        self.place.zero_()
        self.first = step

    def _body(self) -> None:
        self._learn_from(self.rows)

    def _learn_from(self, rows: Tensor) -> None:
        """The step at the current place of a plan, rows (steps, B)."""
        self.optimizer.rates.copy_(self.rates.index_select(0, self.place)[0])
        self.learn(self.batches.gather(rows.index_select(0, self.place)[0]))
        self.place += 1

    def _recorded(self) -> Action:
        """A step as a graph, where it can be recorded."""
        if self.record is None:
            return self._body
        kept = [(tensor, tensor.clone()) for tensor in self._changed()]
        known = {id(tensor) for tensor, _ in kept}

        def undo() -> None:
            with torch.no_grad():
                for tensor, value in kept:
                    tensor.copy_(value)
                for tensor in self._changed():
                    if id(tensor) not in known:
                        tensor.zero_()  # moments before the first step

        replay, self.recorded = recorded(self.record, self._body, undo)
        return replay

    def _changed(self) -> list[Tensor]:
        """All tensors that a step changes."""
        own = [self.loss_sum, self.place, self.optimizer.rates]
        return [*self.model.parameters(), *self.optimizer.tensors(), *own]


class KeptStep:
    """Keeps the recorded step of the last run of a process for the next run, if that differs only in its seed.

    Recording takes about as long as all steps of a small run.
    """

    stepper: PlannedStepper | None = None

    def take(self, run: RunConfig, data: TaskData) -> PlannedStepper | None:
        """What was kept, if it takes the steps of this run, too; otherwise it is let go, with its memory."""
        kept, self.stepper = self.stepper, None
        if kept is None or cell_digest(kept.run) != cell_digest(run) or _sizes(kept.batches.data) != _sizes(data):
            return None
        return kept

    def keep(self, stepper: Stepper | None) -> None:
        """Keep what took the steps of a run that ended, where it was recorded."""
        self.stepper = stepper if isinstance(stepper, PlannedStepper) and stepper.recorded else None


def _sizes(data: TaskData) -> tuple[object, ...]:
    """What fixes the shapes of a training step, besides the configuration."""
    arrays = {**data.splits["train"], **data.tables}
    return data.shape, {name: (array.shape, array.dtype) for name, array in arrays.items()}
