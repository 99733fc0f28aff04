"""A run of a study with looks may fail without stopping the next look: its last attempt then leaves empty files.

The workflow waits for the files of every run before it takes a look. A run whose last attempt fails leaves them empty,
which counts as failed everywhere, and the same command tries it again.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from kvformer.errors import INTERRUPTED, KvformerError
from kvformer.records.attempts import Attempts
from kvformer.records.run import Failure, RunFolder
from kvformer.training.canary import STARTED
from kvformer.training.provenance import utc_now

ATTEMPTS = "KVFORMER_ATTEMPTS"
"""The variable with the number of attempts that the workflow makes at a run; only set where looks wait for runs."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def is_last(out: Path) -> bool:
    """Count an attempt at the run in `out`, and say whether the workflow will make no other. Raises OSError."""
    allowed, study = os.environ.get(ATTEMPTS), os.environ.get(STARTED, "")
    if allowed is None:
        return False
    file = RunFolder(out).attempts_file
    earlier = Attempts.read(file)
    count = earlier.count + 1 if earlier is not None and earlier.study == study else 1
    Attempts(study=study, count=count).write(file)
    return count >= int(allowed)


def give_up_if_it_fails(arguments: Sequence[str], out: Path) -> int:
    """Run the command `kvformer train` with these arguments in a process of its own, for it may be killed.

    Where it fails, the run is given up, and the exit code is 0. Where it was asked to stop, or another process trains
    the run, the exit code is the command's.
    """
    environment = {name: value for name, value in os.environ.items() if name != ATTEMPTS}
    trainer = subprocess.Popen([sys.executable, "-m", "kvformer", *arguments], env=environment)
    stopped = False

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        trainer.send_signal(number)

    for number in FORWARDED:
        signal.signal(number, forward)
    code = trainer.wait()
    if code in (0, INTERRUPTED) or stopped:
        return code
    try:
        _give_up(RunFolder(out), code)
    except (KvformerError, OSError) as error:
        print(f"kvformer: error: {error}", file=sys.stderr)
        return code
    print("kvformer: the last attempt failed; the study goes on without this run", file=sys.stderr)
    return 0


def _give_up(folder: RunFolder, code: int) -> None:
    with folder.locked():
        if folder.failure() is None:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            Failure(type="Stopped", error=f"its process ended with {how}", time=utc_now()).write(folder.failure_file)
        folder.give_up()
