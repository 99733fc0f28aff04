"""Measuring a model on whole splits, and choosing the weights to report by validation."""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor, nn

from kvformer.config.run import RunConfig
from kvformer.records.correct import Correct
from kvformer.training.batches import Batches
from kvformer.training.checkpoint import Best
from kvformer.training.diagnostics import diagnose
from kvformer.training.objectives import Objective
from kvformer.training.precision import autocast


class Evaluator:
    """Measures models of one run. Metrics are named `<split>/<quantity>`."""

    def __init__(self, run: RunConfig, batches: Batches, objective: Objective) -> None:
        self.run, self.batches, self.objective = run, batches, objective

    def measure(self, model: nn.Module, split: str, tally: list[Tensor] | None = None) -> dict[str, float]:
        """The objective's metrics on a whole split, in evaluation mode. tally: as in `Objective.measure`."""
        model.eval()
        with torch.no_grad(), autocast(self.run, self.batches.device):
            values = self.objective.measure(model, self.batches.evaluation(split), split, tally)
        model.train()
        return {f"{split}/{name}": value for name, value in values.items()}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Metrics of the validation split, and `diagnostics/<score>` of the attention layers."""
        values = self.measure(model, "validation")
        return values | {f"diagnostics/{k}": v for k, v in diagnose(model, self.objective, self.batches).items()}

    def better(self, best: Best | None, model: nn.Module, step: int, values: dict[str, float]) -> Best:
        """The better one of the best weights so far and the model's, by the task's metric on the validation split.

        The earlier weights win a tie. A non-finite metric is worse than any number.
        """
        task = self.run.definition
        value = values[f"validation/{task.metric}"]
        score = (value if task.goal == "max" else -value) if math.isfinite(value) else -math.inf
        if best is not None and score <= best["score"]:
            return best
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        validation = {key: value for key, value in values.items() if key.startswith("validation/")}
        return {"score": score, "step": step, "weights": weights, "validation": validation}

    def reported(self, model: nn.Module, metrics: dict[str, float]) -> tuple[dict[str, float], Correct | None]:
        """Metrics of the reported split, and which of its examples are right, in a task judged by accuracy.

        Where that split is the validation split itself, `metrics` has its metrics already.
        """
        data = self.batches.data
        split, judged = data.reported_split, self.run.definition.metric == "accuracy"
        known = data.splits[split] is data.splits["validation"]
        tally: list[Tensor] = []
        values = {} if known and not judged else self.measure(model, split, tally)
        if known:
            validation = {key: value for key, value in metrics.items() if key.startswith("validation/")}
            values = {key.replace("validation", split, 1): value for key, value in validation.items()}
        if not judged or not tally:
            return values, None
        return values, Correct.of(split, self._examples(split), *torch.cat(tally, dim=1).numpy())

    def _examples(self, split: str) -> str:
        """SHA-256 of the examples that are measured."""
        data = self.batches.data
        digest = hashlib.sha256()
        for name, array in sorted(data.splits[split].items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).data)
        if data.random_windows is not None:  # each seed draws its own
            digest.update(str(self.run.seed).encode())
        return digest.hexdigest()
