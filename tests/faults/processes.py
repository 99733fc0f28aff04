"""Runs trained in processes of their own, which start fast: they are forked from one that has imported PyTorch."""

import multiprocessing
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from kvformer.config.run import RunConfig

FORKS: Any = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["kvformer.training.run"])


def start(run: RunConfig, out: Path, data: Path, checkpoint_seconds: float) -> BaseProcess:
    """Start training a run in a process that can be killed."""
    process: BaseProcess = FORKS.Process(target=_train, args=(run.to_json(), out, data, checkpoint_seconds))
    process.start()
    return process


def _train(run: str, out: Path, data: Path, checkpoint_seconds: float) -> None:
    from kvformer.training.run import train_run

    sys.stdout = sys.stderr
    train_run(RunConfig.from_json(run), out, data, "cpu", keep_weights=True, checkpoint_seconds=checkpoint_seconds)
