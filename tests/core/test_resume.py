"""Exact resume: wherever and however a run is stopped, it ends as one that was never interrupted."""

import hashlib
import io
import pickle
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import command, environment, results, tiny_run

from kvformer.config.run import RunConfig
from kvformer.errors import Interrupted, KvformerError
from kvformer.files import read_json
from kvformer.records import base as records_module
from kvformer.records.run import RunFolder, Summary
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS
from kvformer.training import identity as identity_module
from kvformer.training import run as run_module
from kvformer.training.checkpoint import MAGIC, write_checkpoint
from kvformer.training.loop import Trainer
from kvformer.training.run import train_run


class Killed(BaseException):
    """Stands for a process that is killed: no handler may catch it."""


def train(run: RunConfig, out: Path, data: Path, checkpoint_seconds: float = 0.0, **options: Any) -> Summary:
    return train_run(run, out, data, device="cpu", keep_weights=True, checkpoint_seconds=checkpoint_seconds, **options)


def killed_at(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    """Kill training right after each of these steps, once per step."""
    original = Trainer.train_step
    left = list(steps)

    def step(self: Trainer) -> None:
        original(self)
        if left and self.state.step == left[0]:
            left.pop(0)
            raise Killed

    monkeypatch.setattr(Trainer, "train_step", step)


def train_until_done(run: RunConfig, out: Path, data: Path, checkpoint_seconds: float = 0.0) -> int:
    """Train until the run is not killed; returns how often it was killed."""
    for attempt in range(20):
        try:
            train(run, out, data, checkpoint_seconds)
        except Killed:
            continue
        return attempt
    raise AssertionError


@pytest.mark.parametrize("variant", ["qkv", "kv_pos"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_resumes_exactly(
    task: str, variant: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(task, variant)
    train(run, tmp_path / "whole", prepared)
    killed_at(monkeypatch, [1, 4, 5, 7])
    assert train_until_done(run, tmp_path / "pieces", prepared) == 4
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")
    assert read_json(tmp_path / "pieces" / "provenance.json")["attempts"] == 5
    assert not (tmp_path / "pieces" / "progress").exists()
    points = [(point["step"], point["key"]) for point in results(tmp_path / "pieces")["points"]]
    assert len(set(points)) == len(points)


@pytest.mark.parametrize("protocol", ["published", "corrected"])
@pytest.mark.parametrize("task", ["cifar10", "characters", "anomaly", "numbers"])
def test_resume_from_an_older_checkpoint(
    task: str, protocol: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when only the first checkpoint exists: all steps are repeated, with augmentation and redrawn sets."""
    run = tiny_run(task, "kv", protocol=protocol, training={"steps": 12, "select": "best"})
    train(run, tmp_path / "whole", prepared)
    killed_at(monkeypatch, [11, 3])
    assert train_until_done(run, tmp_path / "pieces", prepared, checkpoint_seconds=1e9) == 2
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")


@pytest.mark.parametrize("changed", ["variant", "code"])
def test_a_checkpoint_of_another_variant_or_code_is_not_resumed(
    changed: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights of both would fit, but a run that begins with one and ends with the other is a run of neither."""
    run = tiny_run("sort", "kv")
    killed_at(monkeypatch, [3])
    with pytest.raises(Killed):
        train(run, tmp_path / "run", prepared)
    if changed == "variant":
        spec = replace(VARIANTS["kv"].attention, mask_self=True)
        monkeypatch.setitem(VARIANTS, "kv", replace(VARIANTS["kv"], attention=spec))
    else:
        monkeypatch.setattr(identity_module, "code_digest", lambda module: "another")
    train(run, tmp_path / "run", prepared)
    assert f"the checkpoint belongs to {changed} " in (printed := capsys.readouterr().out)
    assert "starting from step 0" in printed and "resuming" not in printed


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"schedule": "one_cycle"},
        {"schedule": "wsd", "decay_share": 0.6},
        {"optimizer": "adam", "weight_decay": 0.5},
        {"optimizer": "adamw", "weight_decay": 0.5, "clip_norm": 0.1},
    ],
)
def test_resume_keeps_precision_schedule_and_optimizer(
    changes: dict[str, Any], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("sort", training=changes, model={"attention_dropout": 0.3, "head_dropout": 0.2})
    train(run, tmp_path / "whole", prepared)
    killed_at(monkeypatch, [3, 6])
    assert train_until_done(run, tmp_path / "pieces", prepared) == 2
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")


@pytest.mark.parametrize(
    "moment", ["correct.json", "attention.npz", "provenance.json", "metrics.jsonl", "summary.json", "end"]
)
def test_killed_while_results_are_written(
    moment: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("copy" if moment == "correct.json" else "characters")
    train(run, tmp_path / "whole", prepared)
    with monkeypatch.context() as patch:
        for module, name in ((records_module, "write_json"), (run_module, "write_bytes")):
            original = getattr(module, name)

            def write(path: Path, content: Any, original: Any = original) -> None:
                if path.name == moment:
                    raise Killed
                original(path, content)

            patch.setattr(module, name, write)
        if moment == "end":

            def clear(self: RunFolder) -> None:
                raise Killed

            patch.setattr(RunFolder, "clear_progress", clear)
        with pytest.raises(Killed):
            train(run, tmp_path / "pieces", prepared)
    assert (tmp_path / "pieces" / "summary.json").exists() == (moment == "end")
    train(run, tmp_path / "pieces", prepared)
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_stop_signal_finishes_the_step_and_saves(
    name: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("reverse")
    train(run, tmp_path / "whole", prepared)
    original = Trainer.train_step
    with monkeypatch.context() as patch:

        def step(self: Trainer) -> None:
            if self.state.step == 3:
                signal.raise_signal(signal.Signals[name])
            original(self)

        patch.setattr(Trainer, "train_step", step)
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(Interrupted, match=f"stopped by {name} after step 4; state saved"):
            train(run, tmp_path / "pieces", prepared, checkpoint_seconds=1e9)
        assert signal.getsignal(signal.SIGTERM) == before
        assert sorted(p.name for p in (tmp_path / "pieces").iterdir()) == ["progress"], "no summary and no failure"
    train(run, tmp_path / "pieces", prepared)
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")


def test_a_signal_during_start_up_stops_after_one_step(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer._resume

    def resume(self: Trainer) -> None:
        signal.raise_signal(signal.SIGTERM)
        original(self)

    monkeypatch.setattr(Trainer, "_resume", resume)
    with pytest.raises(Interrupted, match="after step 1"):
        train(tiny_run("reverse"), tmp_path, prepared)


def test_a_signal_during_the_final_test_lets_it_end(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer._finish

    def finish(self: Trainer, log: Any) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return original(self, log)

    monkeypatch.setattr(Trainer, "_finish", finish)
    assert train(tiny_run("reverse"), tmp_path, prepared).status == "finished"


def test_control_c_twice_ends_at_once(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Trainer) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "train_step", step)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_run("reverse"), tmp_path, prepared)
    assert not (tmp_path / "failure.json").exists()


def interrupted(run: RunConfig, out: Path, data: Path, step: int = 4) -> Path:
    """Kill a run after some steps; returns its checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, [step])
        with pytest.raises(Killed):
            train(run, out, data)
    return out / "progress" / "checkpoint.pt"


class Malicious:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def sealed(content: bytes) -> bytes:
    """Bytes with a valid header of a checkpoint."""
    return MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def pickled(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


DAMAGE = {
    "truncated": (lambda good: good[: len(good) // 2], "is damaged"),
    "empty": (lambda good: b"", "is damaged"),
    "one flipped bit": (lambda good: good[:-100] + bytes([good[-100] ^ 1]) + good[-99:], "is damaged"),
    "text": (lambda good: b"not a checkpoint\n" * 100, "is damaged"),
    "header only": (lambda good: sealed(b""), "is not a checkpoint of tensors and plain values"),
    "malicious pickle": (lambda good: sealed(pickle.dumps(Malicious())), "is not a checkpoint of tensors"),
    "malicious archive": (lambda good: sealed(pickled({"identity": Malicious()})), "is not a checkpoint of tensors"),
    "a tensor": (lambda good: sealed(pickled(torch.ones(2))), "is not a checkpoint of tensors"),
    "an empty state": (lambda good: sealed(pickled({})), "is not a checkpoint of tensors"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused_and_the_run_starts_again(
    damage: str, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tiny_run("copy")
    train(run, tmp_path / "whole", prepared)
    checkpoint = interrupted(run, tmp_path / "pieces", prepared)
    spoil, message = DAMAGE[damage]
    checkpoint.write_bytes(spoil(checkpoint.read_bytes()))
    capsys.readouterr()
    train(run, tmp_path / "pieces", prepared)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "checkpoint" in line]
    assert line.startswith(f"{checkpoint}: ") and message in line and line.endswith("; starting from step 0")
    assert not (tmp_path / "executed").exists()
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")
    assert read_json(tmp_path / "pieces" / "provenance.json")["attempts"] == 1


def test_a_malicious_pickle_would_have_been_executed_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack of the test above is real."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Malicious()))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("what", ["configuration", "data", "device", "compile"])
def test_a_checkpoint_of_another_run_is_refused(
    what: str, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("copy")
    checkpoint = interrupted(run, tmp_path, prepared)
    if what == "configuration":
        run = tiny_run("copy", training={"learning_rate": 0.5})
    else:
        payload = checkpoint.read_bytes().removeprefix(MAGIC).partition(b"\n")[2]
        state = torch.load(io.BytesIO(payload), weights_only=True)
        state["identity"][what] = {"data": ["0" * 64], "device": "cuda", "compile": "default"}[what]
        write_checkpoint(checkpoint, state)
    train(run, tmp_path, prepared)
    printed = capsys.readouterr().out
    assert f"the checkpoint belongs to {what}" in printed and "starting from step 0" in printed
    assert results(tmp_path)["points"][0]["step"] == 2


def test_a_checkpoint_of_another_model_leaves_no_trace_in_the_weights(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights fit, the optimiser's state does not: the run starts from initial weights, not from loaded ones."""
    run = tiny_run("copy")
    train(run, tmp_path / "whole", prepared)
    checkpoint = interrupted(run, tmp_path / "pieces", prepared)
    payload = checkpoint.read_bytes().removeprefix(MAGIC).partition(b"\n")[2]
    state = torch.load(io.BytesIO(payload), weights_only=True)
    state["optimizer"]["param_groups"][0]["params"] = [0]
    write_checkpoint(checkpoint, state)
    train(run, tmp_path / "pieces", prepared)
    assert "does not fit the model" in capsys.readouterr().out
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")


@pytest.mark.parametrize("left", ["nothing", "half"])
def test_metrics_that_are_shorter_than_the_checkpoint_says(
    left: str, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("copy")
    train(run, tmp_path / "whole", prepared)
    interrupted(run, tmp_path / "pieces", prepared, step=6)
    metrics = tmp_path / "pieces" / "progress" / "metrics.jsonl"
    if left == "nothing":
        metrics.unlink()
    else:
        metrics.write_bytes(metrics.read_bytes()[:50])
    train(run, tmp_path / "pieces", prepared)
    assert "starting from step 0" in capsys.readouterr().out
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")


def test_points_after_the_checkpoint_are_written_once(prepared: Path, tmp_path: Path) -> None:
    """A torn last line, and whole points beyond the checkpoint, are cut off."""
    run = tiny_run("copy")
    train(run, tmp_path / "whole", prepared)
    interrupted(run, tmp_path / "pieces", prepared, step=5)
    metrics = tmp_path / "pieces" / "progress" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes() + b'{"step": 5, "key": "train/loss", "value": 1}\n{"step": 5, "ke')
    train(run, tmp_path / "pieces", prepared)
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")


def test_a_diverged_run_stays_diverged_when_it_is_killed_after_that(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("copy", training={"learning_rate": 1e38, "steps": 40, "clip_norm": None})
    assert train(run, tmp_path / "whole", prepared).status == "diverged"
    with monkeypatch.context() as patch:

        def finish(self: Trainer, log: Any) -> Any:
            raise Killed

        patch.setattr(Trainer, "_finish", finish)
        with pytest.raises(Killed):
            train(run, tmp_path / "pieces", prepared)
    train(run, tmp_path / "pieces", prepared)
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")


def test_two_processes_never_train_in_one_folder(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvformer.records.run.LOCK_SECONDS", 0.1)
    run = tiny_run("copy", training={"steps": 100_000})
    process = subprocess.Popen(command(run, tmp_path, prepared), env=environment(), stderr=subprocess.DEVNULL)
    try:
        wait_for((tmp_path / "progress" / "checkpoint.pt").exists, process)
        with pytest.raises(KvformerError, match="another process is training this run"):
            train(run, tmp_path, prepared)
        assert not (tmp_path / "failure.json").exists()
    finally:
        process.kill()
        process.wait()
    train(tiny_run("copy"), tmp_path, prepared)


def wait_for(ready: Callable[[], bool], process: "subprocess.Popen[bytes]", seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)


def test_processes_hit_by_signals_end_as_an_undisturbed_one(prepared: Path, tmp_path: Path) -> None:
    run = tiny_run("characters", training={"steps": 3000, "evaluations": 4})
    train(run, tmp_path / "whole", prepared)
    out = tmp_path / "pieces"
    checkpoint = out / "progress" / "checkpoint.pt"
    line = command(run, out, prepared, "--checkpoint-seconds", "0.02")
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen(line, env=environment(), stderr=subprocess.DEVNULL)
        # The first checkpoint of an attempt says that its start-up is over.
        wait_for(lambda before=before: checkpoint.exists() and checkpoint.stat().st_mtime_ns != before, process)
        time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(timeout=600) == code
    assert subprocess.run(line, env=environment(), stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert results(out) == results(tmp_path / "whole")
    assert read_json(out / "provenance.json")["attempts"] == 4
