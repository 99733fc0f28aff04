"""One lock for everything: it works where the file system has none, and says in one line who holds it."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import environment

from kvformer.errors import KvformerError
from kvformer.locks import hold, owner_file

WHAT = "another process is training this run"
HOLDER = """
import errno, fcntl, sys
from pathlib import Path

def flock(descriptor, operation):
    raise OSError(int(sys.argv[2]), "no locks here")

if int(sys.argv[2]):
    fcntl.flock = flock
from kvformer.locks import hold

with hold(Path(sys.argv[1]), 5.0, "test"):
    print("held", flush=True)
    sys.stdin.read()
"""
ANSWERS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]


@pytest.fixture(params=[0, *ANSWERS], ids=["flock", *(errno.errorcode[number] for number in ANSWERS)])
def answer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """What `flock` answers: 0 where it works."""
    number: int = request.param
    if number:

        def flock(descriptor: int, operation: int) -> Any:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)
    return number


def holder(path: Path, answer: int) -> "subprocess.Popen[str]":
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(answer)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_only_one_process_holds_a_lock_and_the_next_one_gets_it(answer: int, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "lock"
    process = holder(path, answer)
    try:
        with pytest.raises(KvformerError) as refused, hold(path, 0.1, WHAT):
            pass
    finally:
        process.communicate()
    text = str(refused.value)
    assert text.startswith(f"{path}: {WHAT}") and text.endswith("; wait until it has ended, then try again")
    if answer:
        assert f"process {process.pid} on {socket.gethostname()}" in text
    for _ in range(2):
        with hold(path, 0.1, WHAT):
            pass
    assert not owner_file(path).exists()


def test_the_lock_of_a_killed_process_is_taken_over(answer: int, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = holder(path, answer)
    process.kill()
    process.wait()
    assert owner_file(path).exists() == bool(answer)
    with hold(path, 1.0, WHAT):
        pass


def test_a_lock_file_that_was_copied_from_another_disk_blocks_nobody(answer: int, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with hold(tmp_path / "lock", 0.1, WHAT):
        pass


@pytest.mark.parametrize("answer", [errno.ENOSYS], indirect=True)
def test_an_owner_on_another_host_is_named_and_the_remedy_too(answer: int, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    owner_file(path).write_text("4711\nanother-host\n")
    with pytest.raises(KvformerError) as refused, hold(path, 0.1, WHAT):
        pass
    remedy = f"if it no longer exists, delete {owner_file(path)}"
    assert f"{path}: {WHAT} (process 4711 on another-host; {remedy})" in str(refused.value)
    owner_file(path).unlink()
    with hold(path, 0.1, WHAT):
        pass


def test_a_process_that_waits_says_for_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kvformer.locks.PATIENCE", 0.1)
    process = holder(tmp_path / "lock", 0)
    try:
        with pytest.raises(KvformerError), hold(tmp_path / "lock", 0.3, WHAT):
            pass
    finally:
        process.communicate()
    assert capsys.readouterr().out == f"{tmp_path / 'lock'}: {WHAT}; waiting for it\n"


def test_a_folder_that_cannot_be_written_is_named_with_cause_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as refused, hold(tmp_path / "file" / "lock", 0.1, WHAT):
        pass
    assert refused.value.filename == str(tmp_path / "file" / "lock")
    assert refused.value.strerror == "File exists; this file is a lock, and its folder must be writable"
