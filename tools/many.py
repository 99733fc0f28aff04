"""How many runs of a study per minute several processes finish that share a device.

    python -m tools.many config/successor.yaml --processes 8 --seconds 60 --out results/successor --csv speed.csv

Cells are shuffled, so that what is finished in time is a fair sample of the study; the seeds of a cell stay together,
as in its jobs. Tasks whose data are not prepared are left out. Nothing is downloaded.
"""

import argparse
import csv
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kvformer.cli.train_many import part_of
from kvformer.config.loading import load_study
from kvformer.config.run import runs_of
from kvformer.records.manifest import MANIFEST
from kvformer.records.run import RunFolder
from kvformer.records.study import StudyManifest, study_file

TINY: dict[str, dict[str, Any]] = {
    "model": {"dim": 16, "heads": 2, "layers": 1},
    "training": {"steps": 3, "epochs": None, "batch_size": 8},
}
"""What a rehearsal changes in every setting."""
END_SECONDS = 20.0
"""How long processes have to end after they were asked to."""
ENDED = (0, 75, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of processes that were done, or stopped when they were asked to."""


def main() -> int:
    """Train for some time and say how many runs were finished; 1 if none was."""
    options = _parser().parse_args()
    study = chosen(options.config, options.data, options.tasks.split(",") if options.tasks else None, options.tiny)
    runs = [*study.runs]
    random.Random(0).shuffle(runs)
    study.write(study_file(options.out))
    commands = []
    for index in range(options.processes):
        share = study_file(options.out / "shares" / str(index))
        part = part_of(runs, f"{index + 1}/{options.processes}")
        study.model_copy(update={"runs": part}).write(share)
        commands.append(command(share, options))
    began = time.time()
    finished = partial(ends, options.out, study, began)
    codes = watch(commands, options.out / "logs", options.seconds, lambda: len(finished()) >= options.enough)
    row = {
        "label": options.label,
        "study": study.name,
        "runs": len(runs),
        "processes": options.processes,
        "device": options.device,
        **rates(finished(), min(time.time() - began, options.seconds)),
        "failed": sum(RunFolder(options.out / run.path).failure_file.is_file() for run in study.runs),
        "failed_processes": sum(code not in ENDED for code in codes),
    }
    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if options.csv:
        new = not options.csv.exists()
        with options.csv.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
    return 0 if row["finished"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.many", description=__doc__.partition("\n")[0])
    parser.add_argument("config", type=Path, help="study file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--data", type=Path, default=Path("results/data"), help="folder of prepared data")
    parser.add_argument("--processes", type=int, default=1, help="how many at once (default 1)")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time (default: when all are done)")
    parser.add_argument("--enough", type=float, default=math.inf, help="stop when this many runs are finished")
    parser.add_argument("--device", default="auto", help="device (default auto)")
    parser.add_argument("--tasks", help="only these tasks, with commas between")
    parser.add_argument("--label", default="", help="what the row in the table is called")
    parser.add_argument("--csv", type=Path, help="table to which a row is added")
    parser.add_argument("--tiny", action="store_true", help="rehearse: tiny models and three steps")
    return parser


def chosen(config: Path, data: Path, tasks: list[str] | None, tiny: bool) -> StudyManifest:
    """The study, with those of its tasks that are asked for and whose data are prepared."""
    study = load_study(config)
    ready = {
        run.task
        for run in study.runs()
        if all((data / name / MANIFEST).is_file() for name in run.datasets) and run.task in (tasks or [run.task])
    }
    manifest = study.manifest()
    parts = {name: [part for part in getattr(manifest, name) if part.task in ready] for name in ("runs", "settings")}
    parts["tasks"] = [task for task in manifest.tasks if task.name in ready]
    manifest = manifest.model_copy(update=parts)
    if tiny:
        for setting in manifest.settings:
            for section, values in TINY.items():
                (getattr(setting, section) or {}).update(values)
    hashes = [run.hash for run in runs_of(manifest)]
    entries = [run.model_copy(update={"hash": code}) for run, code in zip(manifest.runs, hashes, strict=True)]
    return manifest.model_copy(update={"runs": entries})


def command(share: Path, options: argparse.Namespace) -> list[str]:
    """What trains the runs of a study.json one after the other in one process."""
    places = ["--out", str(options.out), "--data", str(options.data), "--device", options.device]
    return [sys.executable, "-m", "kvformer", "train-many", str(share), "--no-reuse", *places]


def watch(commands: list[list[str]], logs: Path, seconds: float, enough: Callable[[], bool]) -> list[int]:
    """Run commands at once and ask them to end after some time, when it is enough, or when this process is asked;
    returns their exit codes."""
    logs.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    processes: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        for index, line in enumerate(commands):
            with (logs / f"process{index}.log").open("w") as log:
                # each has a process group of its own
                processes.append(
                    subprocess.Popen(line, stdout=log, stderr=log, env=environment, start_new_session=True)
                )
        _wait(processes, seconds, enough)
    finally:
        for number, patience in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, 5.0)):
            left = [process for process in processes if process.poll() is None]
            for process in left:
                os.killpg(process.pid, number)
            _wait(left, patience, lambda: False)
    return [process.poll() or 0 for process in processes]


def _wait(processes: "list[subprocess.Popen[bytes]]", seconds: float, enough: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while any(process.poll() is None for process in processes) and time.monotonic() < end and not enough():
        time.sleep(0.2)


def ends(out: Path, study: StudyManifest, began: float) -> list[float]:
    """When runs were finished, in seconds after `began`."""
    files = (RunFolder(out / run.path).summary_file for run in study.runs)
    times = (file.stat().st_mtime - began for file in files if file.is_file())
    return [seconds for seconds in times if seconds >= 0]


def rates(finished: list[float], seconds: float) -> dict[str, float]:
    """Runs that were finished, and per minute: of the whole time, and of its second half, when all processes have
    started."""
    late = sum(seconds / 2 <= end <= seconds for end in finished)
    return {
        "seconds": round(seconds, 1),
        "finished": len(finished),
        "per_minute": round(len(finished) / seconds * 60, 1),
        "per_minute_later": round(late / seconds * 120, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
