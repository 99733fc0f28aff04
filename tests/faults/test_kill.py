"""SIGKILL at any moment: a run that is started again ends with the same bytes as an undisturbed one."""

import itertools
import time
from pathlib import Path

import numpy as np
from processes import start
from runs import results, tiny_run

KILLS = 20


def test_killed_at_twenty_random_moments(prepared: Path, tmp_path: Path) -> None:
    """Kills hit start-up, steps, checkpoints, the final test and the writing of results, some runs many times."""
    run = tiny_run("characters", training={"steps": 60, "evaluations": 4})
    start(run, tmp_path / "warm-up", prepared, 1e9).join()
    begin = time.monotonic()
    undisturbed = start(run, tmp_path / "whole", prepared, 0.01)
    undisturbed.join()
    assert undisturbed.exitcode == 0
    duration = time.monotonic() - begin
    whole = results(tmp_path / "whole")

    random = np.random.default_rng(0)
    kills = 0
    for number in itertools.count():
        out = tmp_path / f"pieces{number}"
        finished = False
        while not finished:
            process = start(run, out, prepared, 0.01)
            process.join(random.uniform(0, duration) if kills < KILLS else None)
            finished = process.exitcode == 0
            if process.exitcode is None:
                process.kill()
                process.join()
                kills += 1
            else:
                assert finished
        assert results(out) == whole
        assert not (out / "progress").exists() and not (out / "failure.json").exists()
        if kills == KILLS:
            break
