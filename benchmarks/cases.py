"""The runs that are measured: published sizes and batches, random data as large as the real sets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvformer.config.loading import load_study
from kvformer.config.run import RunConfig
from kvformer.records.manifest import ManifestWriter
from kvformer.records.run import RunFolder
from kvformer.tasks.translation import END, SIZES
from kvformer.training.loop import Trainer

VARIANTS = ("qkv", "kv", "kv_pos")
CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "synthetic d64 L2 n64": ("reverse", {"data": {"length": 64}, "model": {"dim": 64, "layers": 2}}),
    "synthetic d256 L4 n128": ("reverse", {"data": {"length": 128}, "model": {"dim": 256, "layers": 4}}),
    "ViT patch 4 d256 L4": ("mnist", {"data": {"patch": 4}}),
    "CIFAR-10 patch 8 d128 L4, augmented": ("cifar10", {}),
    "GPT d192 L6": ("characters", {}),
    "numbers d64 L4 n16": ("numbers", {}),
    "translation d64 L2": ("translation_en_de", {"model": {"dim": 64}}),
}
"""By name: the task, and the sections in which the case differs from its published setting."""


TINY: dict[str, Any] = {"dim": 16, "heads": 2, "layers": 1}


def make_run(case: str, variant: str, tiny: bool = False, precision: str = "fp32") -> RunConfig:
    """The run of a case; tiny: with a model and batches that take no time."""
    task, sections = CASES[case]
    examples = {"train_examples": 6400} if task == "reverse" else {}
    data = {**examples, **sections.get("data", {})}
    model = {**sections.get("model", {}), **(TINY if tiny else {})}
    training = {"precision": precision, **({"batch_size": 8} if tiny else {})}
    section = {"data": data, "model": model, "training": training, "variants": [variant], "seeds": [0]}
    (run,) = load_study({"protocol": "published", "tasks": {task: section}}).runs()
    return run


def write_data(folder: Path) -> None:
    """Write random data sets in the form that `kvformer prepare` writes."""
    random = np.random.default_rng(0)
    for name, shape in (("mnist", (28, 28)), ("cifar10", (32, 32, 3))):
        writer = _writer(folder, name)
        for split in ("train", "test"):
            writer.save(f"{split}_images", random.integers(0, 256, (12_000, *shape), dtype=np.uint8))
            writer.save(f"{split}_labels", random.integers(0, 10, 12_000))
        _finish(writer, name, {"classes": 10, "mean": [0.5], "std": [0.25]})
    for name, symbols in (("shakespeare", 65), ("human_numbers", 30)):
        writer = _writer(folder, name)
        writer.save("tokens", random.integers(0, symbols, 63_095).astype(np.uint8))
        _finish(writer, name, {"vocabulary": [chr(48 + i) for i in range(symbols)]})
    writer = _writer(folder, "multi30k")
    lengths = {split: 4 + random.poisson(9, count) for split, count in (("train", 4000), ("validation", 400))}
    lengths["test"] = lengths["validation"]
    for language, symbols in SIZES.items():
        writer.save_lines(f"{language}_vocabulary", [f"w{i}" for i in range(symbols)])
        for split, sizes in lengths.items():
            tokens = random.integers(END + 1, symbols, sizes.sum())
            writer.save(f"{split}_{language}_tokens", tokens.astype(np.int32))
            writer.save(f"{split}_{language}_offsets", np.concatenate([[0], np.cumsum(sizes)]))
            sentences = np.split(tokens, np.cumsum(sizes)[:-1])
            writer.save_lines(f"{split}_{language}", [" ".join(f"w{i}" for i in row) for row in sentences])
    _finish(writer, "multi30k", {})


def _writer(folder: Path, name: str) -> ManifestWriter:
    (folder / name).mkdir(parents=True)
    return ManifestWriter(folder / name)


def _finish(writer: ManifestWriter, name: str, facts: dict[str, Any]) -> None:
    writer.finish(name, f"random {name}", "drawn for the benchmark", "none", facts)


def make_trainer(run: RunConfig, folder: Path, device: torch.device | None = None, **options: Any) -> Trainer:
    """kvformer's own training of a run on the data in `folder`; `options` are those of `Trainer`."""
    return Trainer(run, RunFolder(folder), folder, device or torch.device("cpu"), **options)
