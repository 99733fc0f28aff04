"""Training: deterministic, paired over variants, tested once, selected by validation; failures leave their reason."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import results, tiny_run, write_data

from kvformer.config.run import RunConfig
from kvformer.dependencies import code_digest
from kvformer.errors import ConfigError, DataError
from kvformer.files import read_json
from kvformer.records.manifest import load_manifest
from kvformer.records.provenance import Provenance
from kvformer.records.run import Failure, RunFolder, Summary
from kvformer.spec.refusals import unsupported
from kvformer.spec.sections import ModelConfig
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS
from kvformer.tasks.base import TaskData
from kvformer.training.batches import Batches
from kvformer.training.diagnostics import diagnose
from kvformer.training.evaluation import Evaluator
from kvformer.training.loop import Trainer
from kvformer.training.run import train_run
from kvformer.training.signals import StopSignals

CPU = torch.device("cpu")


def train(run: RunConfig, out: Path, data: Path, **options: Any) -> Summary:
    return train_run(run, out, data, device="cpu", keep_weights=True, **options)


def trainer(run: RunConfig, folder: Path, data: Path) -> Trainer:
    return Trainer(run, RunFolder(folder), data, CPU)


def points_so_far(folder: Path) -> list[dict[str, Any]]:
    """The points of a run in progress, as they are written."""
    return [json.loads(line) for line in RunFolder(folder).progress_metrics_file.read_text().splitlines()]


def load(run: RunConfig, data: Path) -> TaskData:
    return run.definition.load(run, {name: load_manifest(data / name) for name in run.datasets})


@pytest.mark.parametrize("task", TASKS)
def test_two_runs_agree_byte_for_byte(task: str, prepared: Path, tmp_path: Path) -> None:
    run = tiny_run(task, "kv_pos", model={"attention_dropout": 0.1})
    train(run, tmp_path / "one", prepared)
    torch.manual_seed(99)
    np.random.default_rng(99).random(10)
    torch.rand(1000)
    train(run, tmp_path / "two", prepared)
    assert results(tmp_path / "one") == results(tmp_path / "two")


@pytest.mark.parametrize("task", ["copy", "mnist", "characters"])
def test_another_seed_is_another_run(task: str, prepared: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        train(tiny_run(task, seed=seed), tmp_path / str(seed), prepared)
    first, second = (results(tmp_path / str(seed))["points"] for seed in (0, 1))
    assert [point["key"] for point in first] == [point["key"] for point in second]
    assert all(a["value"] != b["value"] for a, b in zip(first, second, strict=True) if a["key"].endswith("/loss"))


@pytest.mark.parametrize("task", TASKS)
def test_all_variants_see_the_same_examples(task: str, prepared: Path) -> None:
    """Training order and evaluation are equal for all variants of a seed, and different for another seed."""

    def seen(variant: str, seed: int) -> tuple[list[Any], list[Any], str]:
        run = tiny_run(task, variant, seed)
        data = load(run, prepared)
        batches = Batches(run, data, CPU)
        training, evaluation = [], []
        for step in range(12):
            torch.manual_seed(step)
            training.append({name: tensor.clone() for name, tensor in batches.training(step).items()})
        for split in data.splits:
            if split != "train":
                evaluation += list(batches.evaluation(split))
        return training, evaluation, json.dumps(data.records)

    first, second, other = seen("qkv", 0), seen("kv_pos", 0), seen("qkv", 1)
    for ours, theirs in zip(first[:2], second[:2], strict=True):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert first[2] == second[2]
    assert any(
        a[name].shape != b[name].shape or not torch.equal(a[name], b[name])
        for a, b in zip(first[0], other[0], strict=True)
        for name in a
    )


@pytest.mark.parametrize("task", ["reverse", "numbers", "mnist", "translation_en_de"])
def test_an_epoch_shows_every_example_once(task: str, prepared: Path) -> None:
    run = tiny_run(task, training={"batch_size": 7, "drop_last": False})
    data = load(run, prepared)
    batches = Batches(run, data, CPU)
    steps, count = batches.steps_per_epoch, len(next(iter(data.splits["train"].values())))
    for epoch in range(2):
        rows = [batches.training(epoch * steps + step) for step in range(steps)]
        name = next(iter(rows[0]))
        shown = torch.cat([batch[name].flatten(1) for batch in rows]).double().numpy()
        everything = next(b for b in _whole(batches, "train"))[name].flatten(1).double().numpy()
        assert len(shown) == count
        assert sorted(map(bytes, np.ascontiguousarray(shown))) == sorted(map(bytes, np.ascontiguousarray(everything)))
    dropping = Batches(tiny_run(task, training={"batch_size": 7, "drop_last": True}), data, CPU)
    assert dropping.steps_per_epoch == count // 7
    assert len(next(iter(dropping.training(dropping.steps_per_epoch - 1).values()))) == 7


def _whole(batches: Batches, split: str) -> Any:
    size = batches.run.training.evaluation_batch_size
    parts = list(batches.evaluation(split))
    assert all(len(next(iter(part.values()))) <= size for part in parts)
    yield {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def test_a_batch_larger_than_the_data_is_one_step_an_epoch(prepared: Path) -> None:
    run = tiny_run("reverse", training={"batch_size": 4096})
    batches = Batches(run, load(run, prepared), CPU)
    assert batches.steps_per_epoch == 1
    assert len(batches.training(3)["inputs"]) == 40


def test_splits_are_disjoint(prepared: Path) -> None:
    """Held-out images, windows and sets hold nothing that is trained on."""
    run = tiny_run("mnist")
    splits = load(run, prepared).splits
    images = {name: {row.tobytes() for row in arrays["inputs"]} for name, arrays in splits.items()}
    assert len(images["train"]) == 40 and len(images["validation"]) == 10 and len(images["test"]) == 20
    for one, two in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not images[one] & images[two]

    tokens = load_manifest(prepared / "shakespeare").array("tokens")
    run = tiny_run("characters")
    parts = [load(run, prepared).splits[name]["tokens"] for name in ("train", "validation", "test")]
    assert np.array_equal(np.concatenate(parts), tokens), "consecutive and without overlap"

    run = tiny_run("numbers")
    data = load(run, prepared)
    tokens = load_manifest(prepared / "human_numbers").array("tokens")
    windows = np.concatenate([data.splits[name]["inputs"] for name in ("train", "validation")])
    assert np.array_equal(windows.flatten(), tokens[: windows.size])

    run = tiny_run("anomaly")
    data = load(run, prepared)
    members = {name: set(arrays["inputs"].flatten().tolist()) for name, arrays in data.splits.items()}
    assert data.redraw is not None
    for epoch in range(5):
        members["train"] |= set(data.redraw(np.random.default_rng(epoch))["inputs"].flatten().tolist())
    assert not members["train"] & members["validation"]
    assert data.tables["train"] is data.tables["validation"] and data.tables["test"] is not data.tables["train"]


def test_published_overlap_and_test_as_validation(prepared: Path) -> None:
    """The published oddities: CIFAR's validation images are mostly trained on, MNIST's are the test images."""
    splits = load(tiny_run("cifar10", protocol="published", data={"validation_examples": 25}), prepared).splits
    images = {name: {row.tobytes() for row in arrays["inputs"]} for name, arrays in splits.items()}
    assert images["train"] & images["validation"] and not images["test"] & (images["train"] | images["validation"])
    splits = load(tiny_run("mnist", protocol="published"), prepared).splits
    assert np.array_equal(splits["validation"]["inputs"], splits["test"]["inputs"])
    assert len(splits["train"]["inputs"]) == 50


@pytest.mark.parametrize("select", ["last", "best"])
@pytest.mark.parametrize("task", ["mnist", "characters", "translation_en_de", "anomaly", "reverse"])
def test_the_test_split_is_read_once_after_the_last_step(
    task: str, select: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[str, int, bool]] = []
    run = tiny_run(task, training={"select": select})
    subject = trainer(run, tmp_path, prepared)
    original = Batches.evaluation

    def evaluation(self: Batches, split: str, limit: int | None = None) -> Any:
        reads.append((split, subject.state.step, limit is None))
        return original(self, split, limit)

    monkeypatch.setattr(Batches, "evaluation", evaluation)
    with StopSignals() as stop:
        subject.train(stop)
    assert [(step, whole) for split, step, whole in reads if split == "test"] == [(7, True)]
    assert [step for split, step, whole in reads if split == "validation" and whole] == sorted(subject.evaluate_at)


@pytest.mark.parametrize(("task", "metric"), [("reverse", "accuracy"), ("characters", "loss")])
def test_the_best_weights_by_validation_are_the_ones_tested(
    task: str, metric: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation results are dictated: the best one comes early, and a nan, a worse and an equal one follow."""
    good, bad = (0.9, 0.2) if metric == "accuracy" else (0.2, 0.9)
    dictated = iter([math.nan, bad, good, bad, good, math.nan])
    snapshots: dict[int, dict[str, torch.Tensor]] = {}
    original = Evaluator.measure

    def measure(self: Evaluator, model: torch.nn.Module, split: str, *rest: Any) -> dict[str, float]:
        snapshots[subject.state.step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        values = original(self, model, split, *rest)
        if split == "validation":
            return {**values, f"validation/{metric}": next(dictated)}
        return values

    monkeypatch.setattr(Evaluator, "measure", measure)
    run = tiny_run(task, training={"steps": 12, "evaluations": 6, "select": "best", "learning_rate": 0.01})
    subject = trainer(run, tmp_path, prepared)
    with StopSignals() as stop:
        outcome = subject.train(stop)
    assert outcome.selected_step == 6 and subject.state.step == 12
    assert outcome.metrics[f"validation/{metric}"] == good
    weights = subject.model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in snapshots[12].items()), "tested with these"
    # The last snapshot is taken before the test, after the best weights were put back.
    points = points_so_far(tmp_path)
    (test,) = [p["value"] for p in points if p["key"] == f"test/{metric}"]
    assert test == outcome.metrics[f"test/{metric}"]
    assert test == original(subject.evaluator, subject.model, "test")[f"test/{metric}"]
    assert next(p["value"] for p in points if p["key"] == f"validation/{metric}") == "nan"


def test_last_weights_are_tested_where_asked(prepared: Path, tmp_path: Path) -> None:
    summary = train(tiny_run("mnist", training={"select": "last"}), tmp_path, prepared)
    assert summary.selected_step == summary.steps == 7


@pytest.mark.parametrize("task", ["copy", "characters"])
def test_a_diverged_run_is_a_result(task: str, prepared: Path, tmp_path: Path) -> None:
    run = tiny_run(task, training={"learning_rate": 1e38, "steps": 60, "clip_norm": None, "evaluations": 2})
    summary = train(run, tmp_path, prepared)
    assert summary.status == "diverged" and summary.steps is not None and summary.steps < 60
    written = read_json(tmp_path / "summary.json")
    assert written["metrics"]["train/loss"] in ("nan", "inf")
    assert not any(key.startswith("test/") for key in written["metrics"])
    assert written == summary.model_dump(mode="json")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "metrics.jsonl", "provenance.json", "attention.npz"} <= names
    assert "failure.json" not in names and "progress" not in names
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["key"] == "train/loss" and last["value"] in ("nan", "inf")


@pytest.mark.parametrize("select", ["last", "best"])
def test_a_run_whose_last_update_diverges_has_diverged(select: str, prepared: Path, tmp_path: Path) -> None:
    """Its training loss is finite: the one after the update is not measured any more, but that of validation is."""
    training = {"steps": 1, "learning_rate": 1e38, "schedule": "constant", "warmup_steps": 0, "select": select}
    summary = train(tiny_run("sort", "kv", training=training), tmp_path, prepared)
    assert math.isfinite(summary.metrics["train/loss"]) and not math.isfinite(summary.metrics["validation/loss"])
    assert summary.status == "diverged" and "test/accuracy" not in summary.metrics


def test_a_failure_leaves_its_reason_and_no_old_result(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("copy")
    train(run, tmp_path, prepared)
    with monkeypatch.context() as patch:

        def fails(self: Trainer, log: Any) -> Any:
            raise ZeroDivisionError("it went wrong")

        patch.setattr(Trainer, "_finish", fails)
        for attempt in (1, 2):
            with pytest.raises(ZeroDivisionError):
                train(run, tmp_path, prepared)
            failure = Failure.load(tmp_path / "failure.json")
            assert failure.type == "ZeroDivisionError" and failure.error == "it went wrong"
            assert failure.attempt == attempt and "in fails" in failure.trace
            assert failure.time is not None and failure.time.endswith("Z")
            assert set(read_json(tmp_path / "failure.json")) == set(Failure.model_fields)
            assert not (tmp_path / "summary.json").exists(), "an old result must not pass for this one"
    train(run, tmp_path, prepared)
    assert not (tmp_path / "failure.json").exists() and (tmp_path / "summary.json").exists()


def test_a_run_that_fails_where_another_configuration_was_trained_has_failed(prepared: Path, tmp_path: Path) -> None:
    train(tiny_run("mnist"), tmp_path / "run", prepared)
    run = tiny_run("mnist", training={"learning_rate": 0.5})
    with pytest.raises(DataError):
        train(run, tmp_path / "run", tmp_path / "data")
    assert RunFolder(tmp_path / "run").outcome(run.hash) == ("failed", None)


def test_data_that_are_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest.json: missing; prepare the data set first: kvformer prepare mnist"):
        train(tiny_run("mnist"), tmp_path / "run", tmp_path / "data")
    assert read_json(tmp_path / "run" / "failure.json")["type"] == "DataError"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'cuda' is asked for, but PyTorch sees no GPU here; allowed: auto, cpu"):
        train_run(tiny_run("copy"), tmp_path, prepared, device="cuda")


def test_the_record_of_a_run(prepared: Path, tmp_path: Path) -> None:
    """The files hold what docs/architecture.md promises, no key more, as JSON with sorted keys."""
    run = tiny_run("mnist", "kv_pos")
    assert train(run, tmp_path, prepared) == Summary.load(tmp_path / "summary.json")
    for name in ("config.json", "summary.json", "provenance.json"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    summary, provenance = read_json(tmp_path / "summary.json"), read_json(tmp_path / "provenance.json")
    assert read_json(tmp_path / "config.json") == {**run.model_dump(mode="json"), "hash": run.hash}
    assert set(summary) == {
        "status", "task", "family", "setting", "variant", "seed", "protocol", "config_hash", "primary", "metrics",
        "parameters", "steps", "selected_step", "seconds", "samples_per_second", "data",
    }  # fmt: skip
    assert set(summary["parameters"]) == {"total", "attention", "formula"}
    assert set(summary["seconds"]) == {"total", "startup", "stepping", "evaluation", "recording"}
    seconds = summary["seconds"]
    assert all(value >= 0 for value in seconds.values())
    assert seconds["total"] == pytest.approx(sum(v for k, v in seconds.items() if k != "total"), abs=1e-3)
    assert summary["samples_per_second"] == pytest.approx(7 * 8 / seconds["stepping"], rel=0.02)
    assert summary["parameters"]["total"] == summary["parameters"]["formula"]
    assert summary["primary"] == {"metric": "test/accuracy", "goal": "max"}
    assert set(summary["metrics"]) == {
        "train/loss", "train/learning_rate", "validation/loss", "validation/accuracy", "test/loss", "test/accuracy",
    }  # fmt: skip
    assert summary["data"] == [load_manifest(prepared / "mnist").record()]
    assert set(provenance) == {
        "git", "packages", "python", "platform", "cpu", "gpu", "cuda", "threads", "device", "compile", "cuda_graph",
        "precision", "linear", "data", "start", "end", "attempts", "command", "identity", "taken_over_from",
    }  # fmt: skip
    assert set(provenance["identity"]) == {
        "configuration", "variant", "code", "data", "device", "compile", "digest",
    }  # fmt: skip
    assert provenance["identity"]["data"] == [summary["data"][0]["sha256"]] and provenance["taken_over_from"] is None
    assert set(provenance["git"]) == {"commit", "dirty", "diff_sha256"} and provenance["data"] == summary["data"]
    assert provenance["identity"]["code"] == code_digest("vision")
    assert Provenance.load(tmp_path / "provenance.json").threads == 1
    assert (
        provenance["start"] <= provenance["end"] and provenance["packages"]["torch"] == torch.__version__.split("+")[0]
    )
    points = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(set(point) == {"step", "epoch", "key", "value", "elapsed", "time"} for point in points)
    assert [p["step"] for p in points if p["key"] == "train/loss"] == [2, 4, 5, 6, 7]
    assert [p["step"] for p in points if p["key"] == "validation/accuracy"] == [2, 5, 7]
    assert [p["step"] for p in points if p["key"] == "test/accuracy"] == [7]
    assert {p["key"] for p in points if p["key"].startswith("diagnostics/")} == {
        f"diagnostics/layer0/{name}" for name in ("gain", "symmetry", "entropy", "diagonal")
    }
    assert points[-1]["epoch"] == pytest.approx(7 / 5)
    maps = np.load(tmp_path / "attention.npz")
    assert maps["logits"].shape == maps["weights"].shape == (2, 1, 2, 17, 17)
    assert maps["logits"].dtype == maps["weights"].dtype == np.float32
    np.testing.assert_allclose(maps["weights"].sum(-1), 1, rtol=1e-5)
    assert len(maps["inputs"]) == 2


def test_recorded_training_loss_is_the_mean_since_the_last_point(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("copy")
    subject = trainer(run, tmp_path, prepared)
    losses: list[float] = []
    original = subject.objective.loss

    def loss(model: Any, batch: Any) -> torch.Tensor:
        value = original(model, batch)
        losses.append(value.item())
        return value

    monkeypatch.setattr(subject.objective, "loss", loss)
    with StopSignals() as stop:
        subject.train(stop)
    recorded = [(p["step"], p["value"]) for p in points_so_far(tmp_path) if p["key"] == "train/loss"]
    start = 0
    for step, value in recorded:
        assert value == pytest.approx(sum(losses[start:step]) / (step - start), rel=1e-5)
        start = step


def test_evaluation_disturbs_no_training(prepared: Path, tmp_path: Path) -> None:
    """How often a run is evaluated, recorded and saved changes nothing in its weights."""
    weights = []
    for index, (evaluations, record_every, seconds) in enumerate([(1, 100, 1e9), (7, 1, 0.0)]):
        run = tiny_run("cifar10", training={"evaluations": evaluations, "record_every": record_every, "select": "last"})
        train(run, tmp_path / str(index), prepared, checkpoint_seconds=seconds)
        weights.append((tmp_path / str(index) / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_accuracy_and_loss_are_means_over_scored_positions(prepared: Path, tmp_path: Path) -> None:
    """Recall scores only its questions; the size of evaluation batches does not matter."""
    values = []
    for size in (3, 20):
        run = tiny_run("recall", data={"length": 8}, training={"evaluation_batch_size": size})
        subject = trainer(run, tmp_path / str(size), prepared)
        values.append(subject.evaluator.measure(subject.model, "validation"))
        arrays = subject.data.splits["validation"]
        with torch.no_grad():
            logits = subject.model.eval()(torch.from_numpy(arrays["inputs"].astype(np.int64)))
        chances = torch.log_softmax(logits, dim=-1)[:, 4:]
        targets = torch.from_numpy(arrays["targets"].astype(np.int64))[:, 4:]
        assert (arrays["targets"][:, :4] == -100).all()
        loss = -chances.gather(-1, targets[..., None]).mean().item()
        assert values[-1]["validation/loss"] == pytest.approx(loss, rel=1e-5)
        accuracy = (chances.argmax(-1) == targets).double().mean().item()
        assert values[-1]["validation/accuracy"] == pytest.approx(accuracy)
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_learns_to_copy(name: str, prepared: Path, tmp_path: Path) -> None:
    """In 30 steps the loss falls below that of guessing in every variant, encoder or decoder."""
    positions = "rope" if VARIANTS[name].attention.needs_rope else "learned"
    model = {"heads": 8, "dim": 32, "layers": 3, "positions": positions}
    kind = "encoder" if unsupported(VARIANTS[name], ModelConfig(**model), "encoder") is None else "gpt"
    training = {"steps": 30, "batch_size": 16, "learning_rate": 0.01, "evaluations": 1, "warmup_steps": 0}
    task, layers = ("copy", 2) if kind == "encoder" else ("characters", 3)
    data = {"train_examples": 400, "symbols": 3} if kind == "encoder" else {}
    run = tiny_run(task, name, data=data, training=training, model={**model, "layers": layers})
    summary = train(run, tmp_path, prepared)
    assert summary.status == "finished"
    assert summary.metrics["train/loss"] < math.log(3 if kind == "encoder" else 20) - 0.01


def test_bf16_learns_as_fp32_does(prepared: Path, tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        run = tiny_run(
            "copy",
            data={"train_examples": 400},
            model={"dim": 32},
            training={"steps": 60, "learning_rate": 0.01, "batch_size": 32, "precision": precision, "evaluations": 1},
        )
        losses[precision] = train(run, tmp_path / precision, prepared).metrics["train/loss"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.15)
    assert losses["bf16"] != losses["fp32"]


def test_diagnostics_of_known_attention(prepared: Path, tmp_path: Path) -> None:
    subject = trainer(tiny_run("copy", "kv_pos"), tmp_path, prepared)
    (attention,) = [m for m in subject.model.modules() if hasattr(m, "recording")]
    with torch.no_grad():
        attention.position.weight.zero_()
    scores = diagnose(subject.model, subject.objective, subject.batches)
    assert scores["layer0/gain"] == 0.0
    assert scores["layer0/entropy"] == pytest.approx(1.0)
    assert scores["layer0/diagonal"] == pytest.approx(0.25)
    with torch.no_grad():
        attention.position.weight[0, 0] = 1e4
    scores = diagnose(subject.model, subject.objective, subject.batches)
    assert scores["layer0/symmetry"] == pytest.approx(1.0)
    assert scores["layer0/entropy"] < 0.9
    assert subject.model.training, "and the model goes on training"


@pytest.mark.parametrize("task", ["copy", "characters"])
@pytest.mark.parametrize("name", ["qkv", "kv", "kv_rel", "kv_norm"])
def test_symmetry_score_tells_variants_apart(name: str, task: str, prepared: Path, tmp_path: Path) -> None:
    """Of the logits before masks: a causal mask hides one of each pair, and the pair is compared nevertheless."""
    subject = trainer(tiny_run(task, name), tmp_path, prepared)
    if name == "kv_rel":
        (attention,) = [m for m in subject.model.modules() if hasattr(m, "recording")]
        torch.nn.init.normal_(attention.position.offsets)
    score = diagnose(subject.model, subject.objective, subject.batches)["layer0/symmetry"]
    assert -1 <= score <= 1
    assert (score == pytest.approx(1.0, abs=1e-6)) == (name == "kv")


def test_splits_without_examples_are_named_before_training(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.context 64 is too long for the validation split; allowed: below 40"):
        train(tiny_run("characters", data={"context": 64}), tmp_path, prepared)
    for task, split, data in (
        ("mnist", "train", {"validation_examples": 50}),
        ("numbers", "train", {"context": 600}),
        ("numbers", "validation", {"validation_share": 0.01, "whole_validation_batches": True}),
    ):
        with pytest.raises(DataError, match=f"{task}: these data settings leave no examples in the {split} split"):
            train(tiny_run(task, data=data), tmp_path, prepared)


def test_a_flipped_bit_in_the_data_is_named(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "data")
    victim = folder / "mnist" / "train_images.npy"
    content = bytearray(victim.read_bytes())
    content[-1000] ^= 1
    victim.write_bytes(content)
    with pytest.raises(DataError, match=r"train_images.npy: its SHA-256 is not the one in manifest.json"):
        train(tiny_run("mnist"), tmp_path / "run", folder)
