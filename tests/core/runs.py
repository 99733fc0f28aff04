"""Tiny runs of every task, prepared data for them, and training them in this process or in another."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from kvformer.config.loading import load_study
from kvformer.config.run import RunConfig
from kvformer.files import read_json
from kvformer.records.linear import LINEAR, LinearChoice, LinearChoices
from kvformer.records.manifest import ManifestWriter
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS
from kvformer.training.linear_maps import machine

MODEL = {"dim": 16, "layers": 1, "heads": 2}
TRAINING = {"steps": 7, "batch_size": 8, "evaluation_batch_size": 20, "evaluations": 3, "record_every": 2}
DATA: dict[str, dict[str, Any]] = {
    "synthetic": {"length": 4, "train_examples": 40, "validation_examples": 20, "test_examples": 20},
    "vision": {"validation_examples": 10},
    "tiny": {"validation_examples": 10, "image_size": 32},
    "anomaly": {"set_size": 4, "train_sets": 20, "evaluation_sets": 20},
    "characters": {"context": 8, "evaluation_batches": 2},
    "numbers": {"context": 4},
    "translation": {"max_length": 8},
}
WORDS = ["<unk>", "<pad>", "<bos>", "<eos>", "a", "dog", "cat", "runs", "sleeps", "."]


def data_settings(task: str) -> dict[str, Any]:
    definition = TASKS[task]
    for key in (task, task.split("_")[0], definition.family):
        if key in DATA:
            return DATA[key]
    return {}


def tiny_run(
    task: str, variant: str = "kv_pos", seed: int = 0, protocol: str = "corrected", **changes: dict[str, Any]
) -> RunConfig:
    """A run of a few steps, with rotary positions where the variant needs them; `changes` are sections, e.g.
    training={"steps": 3}."""
    positions = {"positions": "rope"} if VARIANTS[variant].attention.needs_rope else {}
    section = {
        "data": {**data_settings(task), **changes.get("data", {})},
        "model": {**MODEL, **positions, **changes.get("model", {})},
        "training": {**TRAINING, **changes.get("training", {})},
        "variants": [variant],
        "seeds": [seed],
    }
    (run,) = load_study({"protocol": protocol, "tasks": {task: section}}).runs()
    return run


def write_data(folder: Path) -> Path:
    """Write small random data sets in the form that `kvformer prepare` writes; returns their folder."""
    random = np.random.default_rng(0)
    for name, shape, classes in (
        ("mnist", (28, 28), 10),
        ("fashion_mnist", (28, 28), 10),
        ("cifar10", (32, 32, 3), 10),
        ("cifar100", (32, 32, 3), 100),
        ("imagefolder:tiny-imagenet", (64, 64, 3), 200),
    ):
        writer = _writer(folder, name)
        for split, count in (("train", 50), ("test", 20)):
            writer.save(f"{split}_images", random.integers(0, 256, (count, *shape), dtype=np.uint8))
            writer.save(f"{split}_labels", random.integers(0, classes, count).astype(np.int64))
        channels = shape[2] if len(shape) == 3 else 1
        _finish(writer, name, {"classes": classes, "mean": [0.5] * channels, "std": [0.25] * channels})
    writer = _writer(folder, "cifar100_resnet34")
    for split, count in (("train", 200), ("test", 60)):
        writer.save(f"{split}_features", random.normal(size=(count, 512)).astype(np.float32))
        writer.save(f"{split}_labels", np.arange(count) % 5)
    _finish(writer, "cifar100_resnet34", {})
    for name, symbols in (("shakespeare", 20), ("human_numbers", 12)):
        writer = _writer(folder, name)
        writer.save("tokens", random.integers(0, symbols, 800).astype(np.uint8))
        _finish(writer, name, {"vocabulary": [chr(97 + i) for i in range(symbols)]})
    writer = _writer(folder, "multi30k")
    for language in ("en", "de"):
        writer.save_lines(f"{language}_vocabulary", WORDS)
        for split, count in (("train", 40), ("validation", 10), ("test", 10)):
            lengths = random.integers(2, 6, count)
            tokens = random.integers(4, len(WORDS), lengths.sum())
            writer.save(f"{split}_{language}_tokens", tokens.astype(np.int32))
            writer.save(f"{split}_{language}_offsets", np.concatenate([[0], np.cumsum(lengths)]))
            sentences = np.split(tokens, np.cumsum(lengths)[:-1])
            writer.save_lines(f"{split}_{language}", [" ".join(WORDS[i] for i in row) for row in sentences])
    _finish(writer, "multi30k", {})
    keep_linear(folder, "oneDNN")
    return folder


def keep_linear(folder: Path, library: str) -> None:
    """Let all processes that read this folder compute linear maps by this library, whatever is faster here."""
    LinearChoices(choices={machine(): LinearChoice(library=library)}).write(folder / LINEAR)


def _writer(folder: Path, name: str) -> ManifestWriter:
    (folder / name).mkdir(parents=True)
    return ManifestWriter(folder / name)


def _finish(writer: ManifestWriter, name: str, facts: dict[str, Any]) -> None:
    writer.finish(name, f"random {name}", "drawn for tests", "none", facts)


def results(out: Path) -> dict[str, Any]:
    """What equal runs must agree on: metrics and summary without times, and the bytes of all other files."""
    points = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    clock = [(point.pop("elapsed"), point.pop("time")) for point in points]
    assert [c[0] for c in clock] == sorted(c[0] for c in clock)
    summary = read_json(out / "summary.json")
    for key in ("seconds", "samples_per_second"):
        del summary[key]
    files = {
        path.name: path.read_bytes()
        for path in sorted(out.iterdir())
        if path.name not in ("metrics.jsonl", "summary.json", "provenance.json")
    }
    return {"points": points, "summary": summary, **files}


def command(run: RunConfig, out: Path, data: Path, *options: str) -> list[str]:
    """`kvformer train --run …` as a command line."""
    line = [sys.executable, "-m", "kvformer", "train", "--run", run.to_json(), "--out", str(out), "--data", str(data)]
    return [*line, "--keep-weights", "--device", "cpu", *options]


def environment() -> dict[str, str]:
    """Environment of a process with one thread that imports this checkout's package."""
    source = Path(__file__).parents[2] / "src"
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(source)}


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`kvformer …` in a process of its own."""
    line = [sys.executable, "-m", "kvformer", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment(), check=False)
