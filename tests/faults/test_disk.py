"""A disk that is full or read-only, and a clock that jumps: one line says so, no file is torn, nothing is lost."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runs import results, tiny_run

from kvformer.cli import main
from kvformer.config.loading import load_study
from kvformer.config.run import RunConfig
from kvformer.records.run import Summary
from kvformer.training.loop import Trainer
from kvformer.training.run import train_run

if TYPE_CHECKING:
    from conftest import Disk


def train(run: RunConfig, out: Path, data: Path, **options: Any) -> Summary:
    return train_run(run, out, data, device="cpu", keep_weights=True, checkpoint_seconds=0.0, **options)


def call(run: RunConfig, out: Path, data: Path) -> int:
    """`kvformer train`, with a checkpoint after every step."""
    return main(["train", "--run", run.to_json(), "--out", str(out), "--data", str(data), "--device", "cpu",
                 "--keep-weights", "--checkpoint-seconds", "0"])  # fmt: skip


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_space(
    disk: "Disk", prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("copy")
    train(run, tmp_path / "whole", prepared)
    out = disk.folder / "run"
    original = Trainer.train_step

    def step(self: Trainer) -> None:
        if self.state.step == 4:
            disk.leave(8192)  # not enough for a checkpoint
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        assert call(run, out, prepared) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"kvformer: error: {out}/progress/checkpoint.pt: No space left on device"
    )
    assert not (out / "summary.json").exists()
    assert sorted(path.name for path in (out / "progress").iterdir()) == ["checkpoint.pt", "lock", "metrics.jsonl"]
    disk.clear()
    assert call(run, out, prepared) == 0
    assert "resuming at step 4 of 7 (attempt 2)" in capsys.readouterr().out
    assert results(out) == results(tmp_path / "whole")


@pytest.mark.parametrize("free", range(0, 40960, 4096))
def test_a_disk_that_is_full_from_the_start(
    free: int, disk: "Disk", prepared: Path, tmp_path: Path, capsys: Any
) -> None:
    """Wherever the space runs out: in the lock, the metrics, the checkpoint, or the results."""
    run = tiny_run("copy")
    train(run, tmp_path / "whole", prepared)
    out = disk.folder / "run"
    disk.leave(free)
    capsys.readouterr()
    code = call(run, out, prepared)
    lines = capsys.readouterr().err.splitlines()
    assert code == 2 and lines[-1].startswith(f"kvformer: error: {disk.folder}") and "No space left" in lines[-1], lines
    assert not (out / "summary.json").exists()
    disk.clear()
    assert call(run, out, prepared) == 0
    assert results(out) == results(tmp_path / "whole")


@pytest.mark.parametrize("command", ["train", "prepare", "collect"])
def test_a_folder_that_cannot_be_written_is_one_line(
    command: str, disk: "Disk", prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_study({"tasks": {"copy": {}}}).manifest().write(disk.folder / "study.json")
    disk.read_only()
    if command == "train":
        code = call(tiny_run("copy"), disk.folder / "run", prepared)
    elif command == "prepare":
        code = main(["prepare", "human_numbers", "--out", str(disk.folder)])
    else:
        code = main(["collect", str(disk.folder)])
    lines = capsys.readouterr().err.splitlines()
    assert code == 2 and len(lines) == 1, lines
    assert lines[0].startswith(f"kvformer: error: {disk.folder}") and "Read-only file system" in lines[0]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_changes_nothing(
    hours: int, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock jumps by an hour each time it is read; durations do not depend on it."""
    run = tiny_run("copy")
    train(run, tmp_path / "whole", prepared)
    seconds = itertools.count(1_700_000_000, hours * 3600)
    monkeypatch.setattr("time.time", lambda: float(next(seconds)))
    monkeypatch.setattr("time.time_ns", lambda: next(seconds) * 1_000_000_000)
    summary = train(run, tmp_path / "jumping", prepared)
    assert summary.seconds["startup"] >= 0 and summary.seconds["total"] < 60
    assert results(tmp_path / "jumping") == results(tmp_path / "whole")
