"""The first seed of a cell goes ahead: while it fails with an error, the cell's other seeds are not started."""

from pathlib import Path
from typing import Any

import pytest
from runs import tiny_run

from kvformer.cli import main
from kvformer.records.run import Failure, RunFolder
from kvformer.training import identity as identity_module
from kvformer.training.loop import Trainer

ERROR = "kvformer: error: not started: seed 0 failed (ZeroDivisionError: it went wrong)"


def train(folder: Path, data: Path, seed: int, started: str = "2020-01-01T00:00:00Z", **changes: Any) -> int:
    run = tiny_run("copy", seed=seed, **changes)
    arguments = ["--run", run.to_json(), "--out", str(folder / f"seed{seed}"), "--data", str(data), "--device", "cpu"]
    first_seed = ["--first-seed", str(folder / "seed0")] if seed else []
    return main(["train", *arguments, "--study-started", started, *first_seed])


def fail_with(monkeypatch: pytest.MonkeyPatch, folder: Path, data: Path, error: BaseException) -> None:
    """Let the first seed end with an error."""

    def step(self: Trainer) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        try:
            assert train(folder, data, 0) in (2, 130)
        except type(error):
            pass


def test_other_seeds_are_not_started_until_the_first_one_succeeds(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, tmp_path, prepared, ZeroDivisionError("it went wrong"))
    capsys.readouterr()
    for _ in range(2):  # a retry ends at once, too
        assert train(tmp_path, prepared, 1) == 2
        assert capsys.readouterr().err.splitlines() == [ERROR]
    failure = Failure.load(tmp_path / "seed1/failure.json")
    assert f"{failure.type}: {failure.error}" == "not started: seed 0 failed"
    assert RunFolder(tmp_path / "seed1").outcome(tiny_run("copy", seed=1).hash) == ("not started", None)
    assert RunFolder(tmp_path / "seed0").outcome(tiny_run("copy").hash) == ("failed", None)

    assert train(tmp_path, prepared, 0) == 0
    assert train(tmp_path, prepared, 1) == 0
    assert not (tmp_path / "seed1/failure.json").exists()


def test_the_result_of_older_code_does_not_stand_for_a_run_that_is_not_started(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(tmp_path, prepared, 1) == 0
    monkeypatch.setattr(identity_module, "code_digest", lambda module: "another")
    fail_with(monkeypatch, tmp_path, prepared, ZeroDivisionError("it went wrong"))
    assert train(tmp_path, prepared, 1) == 2
    assert RunFolder(tmp_path / "seed1").outcome(tiny_run("copy", seed=1).hash) == ("not started", None)


@pytest.mark.parametrize("error", [MemoryError("too large"), KeyboardInterrupt()])
def test_memory_and_signals_say_nothing_about_other_seeds(
    error: BaseException, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, tmp_path, prepared, error)
    assert (tmp_path / "seed0/failure.json").exists() == isinstance(error, MemoryError)
    assert train(tmp_path, prepared, 1) == 0


@pytest.mark.parametrize("changed", ["configuration", "code", "earlier"])
def test_a_failure_of_another_configuration_code_or_start_does_not_count(
    changed: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, tmp_path, prepared, ZeroDivisionError("it went wrong"))
    assert train(tmp_path, prepared, 1) == 2
    if changed == "configuration":
        assert train(tmp_path, prepared, 1, training={"learning_rate": 0.5}) == 0
        return
    if changed == "code":
        monkeypatch.setattr(identity_module, "code_digest", lambda module: "another")
    started = "2100-01-01T00:00:00Z" if changed == "earlier" else "2020-01-01T00:00:00Z"
    assert train(tmp_path, prepared, 1, started) == 0
