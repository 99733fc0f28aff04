"""Sixteen runs and several ingestions at once on a store that does not exist yet: nothing is lost or doubled."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fake_runs import FINAL_POINTS, FakeRun, curve_points, write_study

from kvformer import tracking

Export = Callable[..., dict[str, dict[str, Any]]]

INGEST = """
import sys, time
from pathlib import Path
from kvformer import tracking
study, done = Path(sys.argv[1]), Path(sys.argv[2])
while True:
    last = done.exists()
    print(tracking.track([study], live=True), flush=True)
    if last:
        break
    time.sleep(0.05)
"""
POINTS = 200


def test_sixteen_runs_and_three_ingestions_on_a_cold_store(cold_study: Path, tmp_path: Path, export: Export) -> None:
    done = tmp_path / "done"
    runs = [FakeRun(cold_study, f"reverse/default/kv/seed{seed}") for seed in range(16)]
    write_study(cold_study, runs)
    command = [sys.executable, "-c", INGEST, str(cold_study), str(done)]
    ingestions = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    # Training goes on until an ingestion has seen some of the runs, however slow this machine is.
    assert ingestions[0].stdout is not None
    first = ingestions[0].stdout.readline

    def train(run: FakeRun) -> None:
        points = curve_points(POINTS)
        run.begin()
        for part in range(0, POINTS, 20):
            run.log(points[part : part + 20])
            if part == POINTS // 2:
                started.result()
        run.finish(points)

    with ThreadPoolExecutor(17) as pool:
        started = pool.submit(first)
        list(pool.map(train, runs))
    done.touch()
    outputs = [ingestion.communicate(timeout=300) for ingestion in ingestions]
    assert [ingestion.returncode for ingestion in ingestions] == [0, 0, 0], outputs
    assert "locked" not in str(outputs)
    assert "Traceback" not in str(outputs)

    stored = export(cold_study)
    assert set(stored) == {run.key for run in runs} | {"study@demo"}
    for run in runs:
        points = stored[run.key]["points"]
        assert stored[run.key]["status"] == "FINISHED"
        assert len(points) == len({point[:2] for point in points}) == POINTS + FINAL_POINTS
    assert tracking.track([cold_study]).points == 0
