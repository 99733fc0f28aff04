"""A run of a study with looks, or a trial, may fail without stopping the study: its last attempt leaves empty files.

The workflow waits for the files of all these runs. Empty ones count as failed everywhere, and the next start of the
study tries the run again.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from kvformer.errors import INTERRUPTED, KvformerError
from kvformer.records.run import Failure, RunFolder
from kvformer.training.provenance import utc_now

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def give_up_what_fails(command: Callable[[Sequence[Path]], Sequence[str]], folders: Sequence[Path]) -> int:
    """Train runs by a command of kvformer in a process of its own, for it may be killed.

    Runs that fail are given up, and the exit code is 0. Where the command was asked to stop, or another process trains
    such a run, the exit code is the command's.

    command: the arguments that train the runs of these folders, in this order; `--attempts-left` is added.
    """
    left = [*folders]
    while True:
        began = utc_now()
        code, stopped = _run(command(left))
        if code in (0, INTERRUPTED) or stopped:
            return code
        left = [folder for folder in left if RunFolder(folder).summary() is None]
        lost = _lost(left, code, began)
        for folder in lost:
            try:
                _give_up(RunFolder(folder), code)
            except (KvformerError, OSError) as error:
                print(f"kvformer: error: {error}", file=sys.stderr)
                return code
            print(f"kvformer: {folder}: the last attempt failed; the study goes on without this run", file=sys.stderr)
        left = [folder for folder in left if folder not in lost]
        if not left:
            return 0


def _run(arguments: Sequence[str]) -> tuple[int, bool]:
    """Run kvformer, and pass signals on. Returns its exit code, and whether there was a signal."""
    received: list[int] = []
    trainer: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if trainer is not None:
            trainer.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    trainer = subprocess.Popen([sys.executable, "-m", "kvformer", *arguments, "--attempts-left", "1"])
    for number in received:  # they came while the process was started
        trainer.send_signal(number)
    code = trainer.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    return code, bool(received)


def _lost(left: Sequence[Path], code: int, began: str) -> list[Path]:
    """Which of the unfinished runs failed: all where the process came to its end (1), else those that say so. Where it
    was killed, or none says so, also the first of the others, in which it died."""
    if code == 1:
        return [*left]
    failures = {folder: RunFolder(folder).failure() for folder in left}
    lost = [folder for folder, failure in failures.items() if failure is not None and (failure.time or "") >= began]
    if code < 0 or not lost:
        lost += [folder for folder in left if folder not in lost][:1]
    return lost


def _give_up(folder: RunFolder, code: int) -> None:
    with folder.locked():
        if folder.failure() is None:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            Failure(type="Stopped", error=f"its process ended with {how}", time=utc_now()).write(folder.failure_file)
        folder.give_up()
