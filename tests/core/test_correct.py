"""Runs keep which test examples they got right: exactly those that the reported accuracy counts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import tiny_run
from safetensors.torch import load_file

from kvformer.errors import DataError
from kvformer.records.correct import Correct, pack, unpack
from kvformer.records.manifest import load_manifest
from kvformer.records.run import RunFolder, Summary
from kvformer.training.loop import Trainer
from kvformer.training.run import train_run

BY_ACCURACY = [
    ("reverse", "corrected", {}),
    ("recall", "corrected", {"data": {"length": 8}}),
    ("mnist", "corrected", {}),
    ("mnist", "published", {}),  # the test images are the validation images
    ("mnist", "corrected", {"training": {"select": "best"}}),
    ("anomaly", "corrected", {}),
    ("numbers", "corrected", {}),  # there is no test split
    ("numbers", "published", {"training": {"select": "best"}}),
]


def train(
    folder: Path, prepared: Path, task: str, variant: str = "kv", seed: int = 0, **options: Any
) -> Correct | None:
    train_run(tiny_run(task, variant, seed, **options), folder, prepared, device="cpu")
    return Correct.read(RunFolder(folder).correct_file)


@pytest.mark.parametrize(("task", "protocol", "changes"), BY_ACCURACY)
def test_their_mean_is_the_reported_accuracy(
    task: str, protocol: str, changes: dict[str, Any], prepared: Path, tmp_path: Path
) -> None:
    record = train(tmp_path, prepared, task, protocol=protocol, **changes)
    summary = Summary.load(RunFolder(tmp_path).summary_file)
    assert record is not None and summary.primary is not None
    right, scored = unpack(record.right), unpack(record.scored)
    assert f"{record.split}/accuracy" == summary.primary.metric
    assert right.sum() / scored.sum() == summary.metrics[summary.primary.metric], "to the last bit"
    assert (right >= 0).all() and (right <= scored).all()
    assert len(set(scored)) == 1 and scored[0] == {"reverse": 4, "recall": 4, "numbers": 4}.get(task, 1)
    assert RunFolder(tmp_path).correct_file.stat().st_size < 1000


@pytest.mark.parametrize("task", ["characters", "translation_en_de"])
def test_tasks_judged_by_loss_or_bleu_have_none(task: str, prepared: Path, tmp_path: Path) -> None:
    assert train(tmp_path, prepared, task) is None
    assert not RunFolder(tmp_path).correct_file.exists()


@pytest.mark.parametrize(
    ("task", "shared"), [("mnist", True), ("numbers", True), ("reverse", False), ("anomaly", False)]
)
def test_the_digest_tells_whether_seeds_share_their_test_examples(
    task: str, shared: bool, prepared: Path, tmp_path: Path
) -> None:
    found = {
        (variant, seed): train(tmp_path / f"{variant}{seed}", prepared, task, variant, seed)
        for variant in ("qkv", "kv")
        for seed in (0, 1)
    }
    digests = {key: record.examples for key, record in found.items() if record is not None}
    assert len(digests) == 4
    assert all(digests["qkv", seed] == digests["kv", seed] for seed in (0, 1)), "pairs are tested on the same examples"
    assert (digests["kv", 0] == digests["kv", 1]) == shared


def test_the_last_answers_are_those_of_the_kept_weights(prepared: Path, tmp_path: Path) -> None:
    """Each example's answer, against a forward pass of the saved model."""
    run = tiny_run("mnist", training={"select": "best"})
    train_run(run, tmp_path, prepared, device="cpu", keep_weights=True)
    record = Correct.load(RunFolder(tmp_path).correct_file)
    trainer = Trainer(run, RunFolder(tmp_path / "again"), prepared, torch.device("cpu"))
    trainer.model.load_state_dict(load_file(RunFolder(tmp_path).weights_file))
    trainer.model.eval()
    with torch.no_grad():
        answers = [trainer.model(batch["inputs"]).argmax(-1) for batch in trainer.batches.evaluation("test")]
    labels = load_manifest(prepared / "mnist").array("test_labels")
    assert (unpack(record.right) == (torch.cat(answers).numpy() == labels)).all()


def test_a_diverged_run_leaves_no_earlier_answers(prepared: Path, tmp_path: Path) -> None:
    assert train(tmp_path, prepared, "copy") is not None
    broken = {"learning_rate": 1e38, "steps": 40, "clip_norm": None}
    assert train(tmp_path, prepared, "copy", training=broken) is None
    assert RunFolder(tmp_path).summary_file.exists()


@pytest.mark.parametrize("counts", [[], [0, 1, 1, 0], [24] * 5000, [0, 300, 70_000]])
def test_counts_survive_packing(counts: list[int]) -> None:
    text = pack(np.array(counts, dtype=np.int64))
    assert unpack(text).tolist() == counts and text == pack(unpack(text)) and len(text) < 300


@pytest.mark.parametrize("text", ["", "nonsense", "AAAA", pack(np.ones(50, dtype=np.int64))[:-8], "é"])
def test_damaged_counts_are_told(text: str) -> None:
    with pytest.raises(DataError, match="not the packed counts"):
        unpack(text)


def test_a_kilobyte_holds_ten_thousand_answers() -> None:
    """Of a model that gets 98 % right; the worst case, half of them, takes two and a half."""
    random = np.random.default_rng(0)
    sizes = [len(pack((random.random(10_000) < share).astype(np.int64))) for share in (0.98, 0.5)]
    assert sizes[0] < 1000 and sizes[1] < 2500, sizes
