"""The state of a run in training, and the checkpoint from which an interrupted run goes on.

A checkpoint is written whole or not at all, checked before it is used, and belongs to one configuration.
"""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from kvformer.errors import CheckpointError
from kvformer.files import write_bytes
from kvformer.records.run import RunFolder

MAGIC = b"kvformer checkpoint 3\n"


class Best(TypedDict):
    """The weights that validation chose so far: its score (more is better), step and validation metrics."""

    score: float
    step: int
    weights: dict[str, Tensor]
    validation: dict[str, float]


@dataclass
class State:
    """What changes while a run trains, besides the weights and the optimiser's moments.

    step: steps done. loss_sum, loss_count: training loss over the steps since the last recorded point. latest: the
        newest value of each metric. best: the selected weights, where the best ones are kept. diverged: whether the
        training loss became non-finite.
    seconds: time spent so far, by phase. attempts: how often the run was started. metrics_bytes: size of the metrics
        file when the state was saved.
    """

    loss_sum: Tensor
    loss_count: int = 0
    step: int = 0
    latest: dict[str, float] = field(default_factory=dict)
    best: Best | None = None
    diverged: bool = False
    seconds: dict[str, float] = field(default_factory=lambda: {"stepping": 0.0, "evaluation": 0.0, "recording": 0.0})
    attempts: int = 1
    metrics_bytes: int = 0


class Checkpoint:
    """The checkpoint in the progress folder of a run; `identity` is what a saved state must agree with to be used."""

    def __init__(self, folder: RunFolder, identity: dict[str, Any], device: torch.device) -> None:
        self.folder, self.identity, self.device = folder, identity, device

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
        """Save everything that a later process needs to go on from here."""
        content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": vars(state)}
        write_checkpoint(self.folder.checkpoint_file, {"identity": self.identity, **content})

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> State | None:
        """Load the saved weights into model and optimiser, and return the saved state; None if there is none.

        Raises:
            CheckpointError: the checkpoint cannot be used; parts of it may have been loaded.
        """
        path, metrics = self.folder.checkpoint_file, self.folder.progress_metrics_file
        content = read_checkpoint(path, self.identity, self.device)
        if content is None:
            return None
        try:
            state = State(**content["state"])
            model.load_state_dict(content["model"])
            optimizer.load_state_dict(content["optimizer"])
        except (RuntimeError, TypeError, ValueError, KeyError):
            raise CheckpointError(f"{path}: does not fit the model of this version of kvformer") from None
        if not metrics.is_file() or metrics.stat().st_size < state.metrics_bytes:
            raise CheckpointError(f"{path}: points that belong to it are missing in {metrics.name}")
        return state


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values, preceded by their SHA-256."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    write_bytes(path, MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def read_checkpoint(path: Path, identity: dict[str, Any], device: torch.device) -> dict[str, Any] | None:
    """The content of a checkpoint; None if there is no file. Pickled code is never run.

    Raises:
        CheckpointError: the file is damaged, holds more than tensors and plain values, or has another identity.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, _, payload = raw.removeprefix(MAGIC).partition(b"\n")
    if not raw.startswith(MAGIC) or hashlib.sha256(payload).hexdigest().encode() != digest:
        raise CheckpointError(f"{path}: the checkpoint is damaged")
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
        saved = content["identity"]
    except Exception:  # a foreign file can raise anything
        raise CheckpointError(f"{path}: is not a checkpoint of tensors and plain values") from None
    for name, value in identity.items():
        if saved.get(name) != value:
            raise CheckpointError(f"{path}: the checkpoint belongs to {name} {saved.get(name)}, not {value}")
    return content
