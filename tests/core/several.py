"""Training several runs in this process by `kvformer train-many`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kvformer.cli import main
from kvformer.config.run import RunConfig, runs_to_json
from kvformer.training.loop import Trainer


def arguments(runs: list[RunConfig], study: Path, data: Path, *options: str) -> list[str]:
    line = ["train-many", "--runs", runs_to_json(runs), "--out", str(study), "--data", str(data)]
    return [*line, "--archive", str(study.parent / "archive"), "--device", "cpu", "--keep-weights", *options]


def train(runs: list[RunConfig], study: Path, data: Path, *options: str) -> int:
    """Train the runs in this process; without --study-started this starts a study."""
    return main(arguments(runs, study, data, *options))


def log_of(study: Path, run: RunConfig) -> str:
    return (study / "logs" / f"{run.path}.log").read_text(encoding="utf-8")


def on_step(monkeypatch: pytest.MonkeyPatch, act: Callable[[RunConfig, int], None]) -> None:
    """Call `act` with the run before each step of training."""
    original = Trainer.train_step

    def step(self: Trainer) -> None:
        act(self.run, self.state.step)
        original(self)

    monkeypatch.setattr(Trainer, "train_step", step)
