"""A run that others wait for and that fails on its last attempt leaves empty files, which count as failed."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from runs import tiny_run

from kvformer.records.run import Failure, RunFolder, Summary
from kvformer.records.study import StudyManifest, TaskEntry
from kvformer.tracking.entries import run_sources
from kvformer.training import attempts
from kvformer.training.attempts import give_up_what_fails
from kvformer.training.provenance import utc_now


def attempt(out: Path, run: str, left: int) -> "subprocess.Popen[str]":
    """Start `kvformer train` as the workflow does that makes this many further attempts."""
    command = [sys.executable, "-m", "kvformer", "train", "--run", run, "--out", str(out), "--device", "cpu"]
    return subprocess.Popen([*command, "--attempts-left", str(left)], stderr=subprocess.PIPE, text=True)


def test_the_last_attempt_fails_without_an_error(tmp_path: Path) -> None:
    folder, run = RunFolder(tmp_path), tiny_run("copy")
    first = attempt(tmp_path, "{}", 1)
    assert first.communicate()[1].startswith("kvformer: error: --run") and first.returncode == 2
    assert not folder.given_up and not folder.summary_file.exists()
    last = attempt(tmp_path, "{}", 0)
    assert "the study goes on without this run" in last.communicate()[1] and last.returncode == 0
    assert folder.given_up
    assert Failure.load(folder.failure_file).error == "its process ended with exit code 2"
    assert folder.outcome(run.hash) == ("failed", None)
    finished = attempt(tmp_path, run.to_json(), 0)
    assert finished.wait() == 0
    assert folder.outcome(run.hash)[0] == "finished"
    assert not (folder.failure_file.exists() or folder.progress.exists())


def test_a_run_that_is_asked_to_stop_is_not_given_up(tmp_path: Path) -> None:
    run = tiny_run("copy", training={"steps": 10**6})
    process = attempt(tmp_path, run.to_json(), 0)
    while not RunFolder(tmp_path).progress_metrics_file.exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 75
    assert not RunFolder(tmp_path).given_up and RunFolder(tmp_path).checkpoint_file.exists()


def test_a_signal_while_the_process_is_started_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    class Started:
        def __init__(self, command: Sequence[str]) -> None:
            signal.raise_signal(signal.SIGTERM)

        def send_signal(self, number: int) -> None:
            sent.append(number)

        def wait(self) -> int:
            return 75

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(subprocess, "Popen", Started)
    assert attempts._run(["train"]) == (75, True)
    assert sent == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == handler


class Machine:
    """Stands in for processes that train runs: which runs fail, kill their process, lose its GPU or are stopped."""

    def __init__(self, **said: str) -> None:
        self.said = said
        self.began: list[list[str]] = []

    def run(self, left: Sequence[str]) -> tuple[int, bool]:
        self.began.append([Path(path).name for path in left])
        failed = False
        for folder in map(RunFolder, map(Path, left)):
            word = self.said.get(folder.path.name, "finish")
            folder.path.mkdir(exist_ok=True)
            folder.failure_file.unlink(missing_ok=True)
            if word == "kill":
                return -signal.SIGKILL, False
            if word == "stop":
                return 75, True
            if word == "finish":
                Summary(status="finished", metrics={}).write(folder.summary_file)
            else:
                Failure(type="ValueError", error=word, time=utc_now()).write(folder.failure_file)
                failed = True
            if word == "lose":
                return 2, False
        return int(failed), False


@pytest.mark.parametrize(
    ("said", "given_up", "processes"),
    [
        ({}, "", ["abcd"]),
        ({"a": "fail", "c": "fail"}, "ac", ["abcd"]),
        ({"b": "kill"}, "b", ["abcd", "cd"]),
        ({"a": "fail", "b": "kill", "c": "kill"}, "abc", ["abcd", "cd", "d"]),
        ({"a": "lose", "d": "fail"}, "ad", ["abcd", "bcd"]),
        ({"a": "kill", "b": "stop"}, "a", ["abcd", "bcd"]),
    ],
)
def test_of_several_runs_only_those_that_fail_are_given_up(
    said: dict[str, str], given_up: str, processes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they take their process with them. What failed in an earlier attempt is tried before it counts."""
    folders, machine = [tmp_path / name for name in "abcd"], Machine(**said)
    for folder in folders:
        Failure(type="ValueError", error="earlier", time="2026-01-01T00:00:00Z").write(RunFolder(folder).failure_file)
    monkeypatch.setattr(attempts, "_run", machine.run)
    code = give_up_what_fails(lambda left: [str(folder) for folder in left], folders)
    assert code == (75 if "stop" in said.values() else 0)
    assert "".join(folder.name for folder in folders if RunFolder(folder).given_up) == given_up
    assert ["".join(names) for names in machine.began] == processes


def test_mlflow_shows_it_as_failed(tmp_path: Path) -> None:
    run = tiny_run("copy")
    folder = RunFolder(tmp_path / run.path)
    folder.path.mkdir(parents=True)
    Failure(type="Stopped", error="why", time="2026-01-01T00:00:00Z").write(folder.failure_file)
    folder.give_up()
    task = TaskEntry(name="copy", metric="accuracy", goal="max")
    runs = [run.entry()]
    study = StudyManifest(name="s", protocol="corrected", baseline="kv", variants=[], tasks=[task], runs=runs)
    (source,) = run_sources(tmp_path, study)
    entry = source.read()
    assert (source.state, entry.status, entry.tags["failure"]) == ("failed", "FAILED", "Stopped: why")
