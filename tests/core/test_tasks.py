"""The examples of every task: inputs and correct answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import tiny_run

from kvformer.config.run import RunConfig
from kvformer.data.arrays import build_arrays
from kvformer.data.raw import RawFiles
from kvformer.data.tokens import BEGIN, END, PADDING, UNKNOWN
from kvformer.errors import DataError
from kvformer.records.manifest import ManifestWriter, load_manifest
from kvformer.tasks import TASKS
from kvformer.tasks.anomaly import AnomalyData, draw_sets
from kvformer.tasks.base import TaskData
from kvformer.tasks.synthetic import SyntheticData
from kvformer.tasks.vision import VisionData
from kvformer.training.batches import Batches


def load(task: str, prepared: Path | None = None, seed: int = 0, **changes: Any) -> TaskData:
    return load_run(tiny_run(task, seed=seed, **changes), prepared)


def load_run(run: RunConfig, prepared: Path | None) -> TaskData:
    return run.definition.load(run, {name: load_manifest(prepared / name) for name in run.datasets} if prepared else {})


RULES = {
    "reverse": lambda row: row[::-1],
    "sort": sorted,
    "sub": lambda row: [9 - x for x in row],
    "swap": lambda row: row[len(row) // 2 :] + row[: len(row) // 2],
    "copy": lambda row: row,
    "shift": lambda row: [row[-1], *row[:-1]],
}


@pytest.mark.parametrize("task", RULES)
def test_synthetic_targets_follow_their_rule(task: str) -> None:
    data = load(task, data={"length": 6, "train_examples": 300})
    for split, arrays in data.splits.items():
        for inputs, targets in zip(arrays["inputs"].tolist(), arrays["targets"].tolist(), strict=True):
            assert targets == list(RULES[task](inputs)), split
    everything = data.splits["train"]["inputs"]
    shares = np.bincount(everything.flatten(), minlength=10) / everything.size
    assert len(shares) == 10 and np.all(np.abs(shares - 0.1) < 0.03), "symbols are uniform"
    assert everything.shape == (300, 6)


def test_all_but_sort_and_shift_are_their_own_inverse() -> None:
    """A symmetric attention pattern can express reverse, swap, copy and sub, which undo themselves, but not shift."""
    row = [3, 1, 4, 1, 5, 9]
    for task, rule in RULES.items():
        assert (list(rule(list(rule(row)))) == row) == (task not in ("sort", "shift")), task


def test_recall_asks_for_values_in_the_list() -> None:
    data = load("recall", data={"length": 16, "symbols": 6, "train_examples": 200})
    for inputs, targets in zip(*(data.splits["train"][name].tolist() for name in ("inputs", "targets")), strict=True):
        keys, values, asked = inputs[0:8:2], inputs[1:8:2], inputs[8:]
        assert len(set(keys)) == 4 and all(key < 6 for key in keys)
        assert all(6 <= value < 12 for value in values)
        assert targets[:8] == [-100] * 8
        memory = dict(zip(keys, values, strict=True))
        assert targets[8:] == [memory[key] - 6 for key in asked]


def test_synthetic_splits_differ_between_splits_seeds_and_tasks() -> None:
    base = load("reverse", data={"length": 16})
    assert len({arrays["inputs"][:20].tobytes() for arrays in base.splits.values()}) == 3
    for other in (load("reverse", seed=1, data={"length": 16}), load("sort", data={"length": 16})):
        assert not np.array_equal(base.splits["train"]["inputs"], other.splits["train"]["inputs"])
    longer = load("reverse", data={"length": 16, "train_examples": 80})
    assert np.array_equal(longer.splits["train"]["inputs"][:40], base.splits["train"]["inputs"])
    assert base.records != load("reverse", seed=1, data={"length": 16}).records


def test_characters_and_numbers_predict_the_next_token(prepared: Path) -> None:
    for task in ("characters", "numbers"):
        run = tiny_run(task)
        data = load(task, prepared)
        batches = Batches(run, data, torch.device("cpu"))
        for batch in [batches.training(0), next(batches.evaluation("validation"))]:
            assert torch.equal(batch["inputs"][:, 1:], batch["targets"][:, :-1])


def test_whole_validation_batches_leave_out_windows_at_random(prepared: Path) -> None:
    every = load("numbers", prepared).splits["validation"]["inputs"]
    whole: dict[str, Any] = {"data": {"whole_validation_batches": True}, "training": {"batch_size": 32}}
    kept = [load("numbers", prepared, seed, **whole).splits["validation"]["inputs"] for seed in (0, 0, 1, 2)]
    assert len(every) == 40 and {len(windows) for windows in kept} == {32}
    assert np.array_equal(kept[0], kept[1]) and any(not np.array_equal(kept[0], other) for other in kept[2:])
    assert all(row.tolist() in every.tolist() for row in kept[2])


def test_whole_evaluation_reads_every_window_once(prepared: Path) -> None:
    run = tiny_run("characters")
    data = load("characters", prepared)
    tokens = data.splits["validation"]["tokens"]
    batches = Batches(run, data, torch.device("cpu"))
    inputs = torch.cat([batch["inputs"] for batch in batches.evaluation("validation")]).flatten().numpy()
    assert np.array_equal(inputs, tokens[: len(inputs)])
    assert len(tokens) - 8 <= len(inputs) + 1 <= len(tokens)


def test_translation_rows(prepared: Path) -> None:
    data = load("translation_en_de", prepared, data={"max_length": 5})
    manifest = load_manifest(prepared / "multi30k")
    for side, language in (("source", "en"), ("target", "de")):
        rows = data.splits["train"][side]
        sentences = np.split(
            np.asarray(manifest.array(f"train_{language}_tokens")), manifest.array(f"train_{language}_offsets")[1:-1]
        )
        assert rows.shape[1] <= 5
        for row, sentence in zip(rows.tolist(), sentences, strict=True):
            cut = sentence.tolist()[:3]
            assert row == [BEGIN, *cut, END] + [PADDING] * (len(row) - len(cut) - 2)
    rare = load("translation_en_de", prepared, data={"min_frequency": 1000})
    assert rare.shape.inputs == rare.shape.outputs == 4
    assert set(np.unique(rare.splits["train"]["source"])) <= {UNKNOWN, PADDING, BEGIN, END}
    back = load("translation_de_en", prepared)
    assert np.array_equal(back.splits["train"]["source"], load("translation_en_de", prepared).splits["train"]["target"])


@pytest.mark.parametrize("set_size", [4, 9, 21])
@pytest.mark.parametrize("position", ["last", "shuffled"])
def test_anomaly_sets(position: str, set_size: int) -> None:
    """Distinct images of one class and one of another, whose place is the target; also in sets as large as a class."""
    data = AnomalyData(set_size=set_size, position=position)
    labels = np.repeat(np.arange(5), 20)
    sets = draw_sets(np.random.default_rng(0), np.arange(100) + 7, labels, data, None)
    assert sets["inputs"].shape == (100, set_size)
    anomalies = []
    for row, place in zip(sets["inputs"], sets["targets"], strict=True):
        classes = labels[row - 7]
        odd = classes[place]
        others = np.delete(classes, place)
        assert len(set(others)) == 1 and others[0] != odd
        assert len(set(row)) == set_size
        anomalies.append(row[place] - 7)
    assert sorted(anomalies) == list(range(100)), "each image is the anomaly once"
    if position == "last":
        assert set(sets["targets"]) == {set_size - 1}
    else:
        assert len(set(sets["targets"].tolist())) > set_size // 2


def test_normal_images_of_a_set_are_drawn_evenly() -> None:
    """With classes of different sizes, every image of a class is equally likely, also after repeated draws."""
    labels = np.array([0] * 6 + [1] * 4)
    counts = np.zeros(10)
    for seed in range(2000):
        sets = draw_sets(
            np.random.default_rng(seed), np.arange(10), labels, AnomalyData(set_size=4, position="last"), 1
        )
        counts[sets["inputs"][0, :-1]] += 1
    for members in (counts[:6], counts[6:]):
        expected = members.mean()
        assert np.all(np.abs(members - expected) < 5 * np.sqrt(expected)), counts


def test_sets_larger_than_a_class_are_refused(prepared: Path) -> None:
    with pytest.raises(DataError, match=r"data.set_size 30 needs at least two classes of at least 29 images"):
        load("anomaly", prepared, data={"set_size": 30})


def test_sets_where_no_image_is_held_out_are_refused() -> None:
    with pytest.raises(DataError, match=r"has 0 classes in a split, the smallest with 0 images"):
        draw_sets(np.random.default_rng(0), np.arange(0), np.arange(0), AnomalyData(set_size=3), None)


@pytest.mark.parametrize("task", ["cifar10", "tiny_imagenet"])
@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_images_of_any_channels_are_normalised_to_numbers(task: str, channels: tuple[int, ...], tmp_path: Path) -> None:
    """Also grey ones in a task of colours, and a channel that is the same everywhere."""
    (tmp_path / "files").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, *channels), dtype=np.uint8)
    images[..., -1] = 0
    for split in ("train", "test"):
        np.save(tmp_path / "files" / f"{split}_images.npy", images)
        np.save(tmp_path / "files" / f"{split}_labels.npy", np.arange(20) % 2)
    (folder := tmp_path / "arrays:x").mkdir()
    writer = ManifestWriter(folder)
    facts = build_arrays(RawFiles(tmp_path / "files", tmp_path, "test"), writer)
    writer.finish("arrays:x", "x", "test", "none", facts)
    run = tiny_run(task, data={"dataset": "arrays:x", "patch": 4, "validation": "test", "augment": "none"})
    batches = Batches(run, load_run(run, tmp_path), torch.device("cpu"))
    inputs = batches.training(0)["inputs"]
    assert inputs.shape[1] == (*channels, 1)[0] and inputs.isfinite().all()


def test_chance_is_what_guessing_gives() -> None:
    expected = [
        ("sort", SyntheticData(), 0.1),
        ("sort", SyntheticData(symbols=20), 0.05),
        ("mnist", VisionData(dataset="mnist"), 0.1),
        ("cifar100", VisionData(dataset="cifar100", patch=4), 0.01),
        ("anomaly", AnomalyData(set_size=5), 0.2),
        ("numbers", tiny_run("numbers").data, None),
    ]
    for name, data, chance in expected:
        assert TASKS[name].chance(data) == chance, name
