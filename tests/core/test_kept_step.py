"""Runs of one cell that are trained in one process share a recorded step, and end as they do by themselves."""

import dataclasses
import gc
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import results, tiny_run
from several import log_of, on_step, train
from tape import record

from kvformer.config.run import RunConfig
from kvformer.files import read_json
from kvformer.records.run import RunFolder
from kvformer.training import loop as loop_module
from kvformer.training.loop import Trainer
from kvformer.training.run import train_run
from kvformer.training.stepping import KeptStep, PlannedStepper

DROPOUT = {"attention_dropout": 0.1, "mlp_dropout": 0.2}
SEEDS = (2, 0, 1)


def recorded(monkeypatch: pytest.MonkeyPatch, fails: tuple[int, ...] = ()) -> list[int]:
    """Let CPUs follow plans and record steps, as GPUs do; returns the numbers of the recordings so far."""
    made: list[int] = []

    def recorder(action: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
        made.append(len(made))
        if made[-1] in fails:
            raise RuntimeError("cannot be recorded")
        return record(action, undo)

    monkeypatch.setattr(loop_module, "recorder", lambda device: recorder)
    return made


def alone(run: RunConfig, folder: Path, data: Path) -> dict[str, Any]:
    """The results of a run that is trained by itself."""
    train_run(run, folder, data, device="cpu", keep_weights=True)
    return results(folder)


@pytest.mark.parametrize(
    ("task", "variant", "changes"),
    [
        ("reverse", "kv_pos", {"training": {"select": "best", "clip_norm": 0.1}}),
        (
            "copy",
            "kv_rot",
            {"data": {"train_examples": 36}, "training": {"drop_last": False, "steps": 12, "evaluations": 1}},
        ),
        ("sort", "kv_offset", {}),
        ("anomaly", "qkv", {}),
        ("cifar10", "kv_gate", {}),
        ("mnist", "kv", {"training": {"schedule": "one_cycle"}}),
        ("characters", "kv_xsa", {}),
        ("numbers", "qkv", {"training": {"precision": "bf16", "batch_size": 64}}),
    ],
)
def test_runs_of_a_cell_share_a_recorded_step(
    task: str,
    variant: str,
    changes: dict[str, Any],
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has its own weights, data and evaluations. Where batches are ragged, single steps are taken in between."""
    runs = [tiny_run(task, variant, seed, **{"model": DROPOUT, **changes}) for seed in SEEDS]
    made = recorded(monkeypatch)
    assert train(runs, tmp_path / "study", prepared) == 0
    assert len(made) == 1
    for run in runs:
        assert read_json(tmp_path / "study" / run.path / "provenance.json")["cuda_graph"] is True
        assert results(tmp_path / "study" / run.path) == alone(run, tmp_path / str(run.seed), prepared), run.path
    assert len(made) == 1 + len(runs)


def test_another_setting_or_variant_has_a_step_of_its_own(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [tiny_run("copy", variant, seed) for variant in ("kv", "qkv") for seed in (0, 1)]
    runs += [tiny_run("copy", "qkv", 3, training={"clip_norm": 0.1}), tiny_run("copy", "qkv", 4)]
    steps: list[weakref.ref[PlannedStepper]] = []
    original = PlannedStepper.follow

    def follow(self: PlannedStepper, recorder: Any) -> None:
        gc.collect()
        assert not any(step() for step in steps), "the memory of an earlier step is free before another one is made"
        steps.append(weakref.ref(self))
        original(self, recorder)

    made = recorded(monkeypatch)
    monkeypatch.setattr(PlannedStepper, "follow", follow)
    assert train(runs, tmp_path / "study", prepared) == 0
    assert len(made) == len(steps) == 4


def test_data_of_other_sizes_have_a_step_of_their_own(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepared data can be replaced while a process trains."""
    first, second, other = tiny_run("mnist"), tiny_run("mnist", seed=1), tiny_run("mnist", "kv")
    recorded(monkeypatch)
    trainer = Trainer(first, RunFolder(tmp_path), prepared, torch.device("cpu"))
    trainer.train_step()
    data, kept = trainer.data, KeptStep()
    half = {name: array[:20] for name, array in data.splits["train"].items()}
    smaller = dataclasses.replace(data, splits={**data.splits, "train": half})
    for run, arrays, found in ((second, data, trainer.stepper), (second, smaller, None), (other, data, None)):
        kept.keep(trainer.stepper)
        assert kept.take(run, arrays) is found
        assert kept.take(run, arrays) is None


def test_a_step_is_shared_after_runs_that_diverged_failed_or_were_resumed(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cell(seed: int) -> RunConfig:
        return tiny_run("copy", "kv", seed, training={"steps": 12}, model=DROPOUT)

    study, made = tmp_path / "study", recorded(monkeypatch)
    whole = [alone(cell(seed), tmp_path / str(seed), prepared) for seed in range(5)]

    def disturb(run: RunConfig, step: int) -> None:
        if run.seed == 3 and step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        on_step(patch, disturb)
        train_run(cell(3), study / cell(3).path, prepared, device="cpu", checkpoint_seconds=0.0, keep_weights=True)
    made.clear()

    original = Trainer.train_step

    def step(self: Trainer) -> None:
        if self.run.seed == 2 and self.state.step == 4:
            raise ZeroDivisionError
        original(self)
        if self.run.seed == 1 and self.state.step == 4:
            self.state.loss_sum.fill_(math.nan)
            for parameter in self.model.parameters():
                parameter.detach().fill_(math.nan)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        assert train([cell(seed) for seed in (0, 1, 3, 2, 4)], study, prepared, "--first-seed", "0") == 1
    assert len(made) == 2, "one for seeds 0, 1, 3 and 2; after the failure, one for seed 4"
    states = [RunFolder(study / cell(seed).path).outcome(cell(seed).hash)[0] for seed in range(5)]
    assert states == ["finished", "diverged", "failed", "finished", "finished"]
    for seed in (0, 3, 4):
        found, expected = results(study / cell(seed).path), whole[seed]
        assert found == expected, seed
    assert read_json(study / cell(3).path / "provenance.json")["attempts"] == 2
    assert read_json(study / cell(1).path / "summary.json")["steps"] == 4, "where the next run goes on"

    assert train([cell(3), cell(2)], study, prepared) == 0
    assert results(study / cell(2).path) == whole[2]


def test_a_resumed_run_takes_over_a_recorded_step(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights and moments are those of its checkpoint."""
    runs = [tiny_run("numbers", "kv_pos", seed, training={"steps": 9}) for seed in (0, 1)]
    study, made = tmp_path / "study", recorded(monkeypatch)
    whole = [alone(run, tmp_path / str(run.seed), prepared) for run in runs]

    def stop(run: RunConfig, step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        on_step(patch, stop)
        train_run(runs[1], study / runs[1].path, prepared, device="cpu", checkpoint_seconds=0.0)
    made.clear()
    assert train(runs, study, prepared) == 0
    assert len(made) == 1 and "resuming at step 5 of 9" in log_of(study, runs[1])
    assert [results(study / run.path) for run in runs] == whole


def test_a_step_that_could_not_be_recorded_is_not_shared(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [tiny_run("copy", "kv", seed) for seed in range(3)]
    made = recorded(monkeypatch, fails=(0,))
    assert train(runs, tmp_path / "study", prepared) == 0
    assert len(made) == 2 and "is not recorded as a CUDA graph" in log_of(tmp_path / "study", runs[0])
    assert "not recorded" not in log_of(tmp_path / "study", runs[1])
    for run in runs:
        assert results(tmp_path / "study" / run.path) == alone(run, tmp_path / str(run.seed), prepared)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("task", "variant"),
    [("reverse", "kv_pos"), ("copy", "kv_rot"), ("anomaly", "qkv"), ("cifar10", "kv"), ("characters", "kv_pos")],
)
def test_runs_of_a_cell_share_a_graph(task: str, variant: str, prepared: Path, tmp_path: Path) -> None:
    runs = [tiny_run(task, variant, seed, model=DROPOUT, training={"steps": 12}) for seed in SEEDS]
    kept = KeptStep()
    for run in runs:
        for folder, step in ((tmp_path / "alone", None), (tmp_path / "shared", kept)):
            train_run(run, folder / run.path, prepared, device="cuda", keep_weights=True, kept=step)
        assert kept.stepper is not None and kept.stepper.run == run
        assert results(tmp_path / "shared" / run.path) == results(tmp_path / "alone" / run.path)
