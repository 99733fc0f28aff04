"""`python -m benchmarks.scale`: what a study of 10,000 runs costs in addition to its training.

Planning and dispatch by Snakemake (with a stand-in for the training, which only writes the declared outputs),
collecting, analysis, tables and figures, and copying to MLflow, on made-up run folders. Every part is one process; its
elapsed time, processor time and peak memory are measured.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kvformer.config.loading import load_study
from kvformer.config.run import RunConfig
from kvformer.config.study import StudyConfig
from kvformer.files import canonical_json, write_json, write_text
from kvformer.records.metrics import MetricPoint
from kvformer.records.provenance import DataRecord, GitState, Provenance
from kvformer.records.run import ParameterCounts, Primary, RunFolder, Summary

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ["qkv", "kv", "kv_pos", "q_kv", "k", "k_pos", "mqa", "kv_gain", "kv_bias", "kv_rel"]
TASKS = ["reverse", "sort", "sub", "swap", "copy"]
POINTS = 50
DISPATCH_SECONDS = 60.0
PARTS = ("plan", "dispatch", "collect", "analyse", "tables", "figures", "track", "track again", "page")
PAGE_RUNS = 100  # what MLflow's page shows at first

STAND_IN = """#!/bin/sh
# Stands in for `python -m kvformer train --run JSON --out FOLDER …`; everything else goes to the real interpreter.
if [ "$3" = train ]; then
  for file in config.json metrics.jsonl summary.json provenance.json attention.npz; do : > "$7/$file"; done
  exit 0
fi
exec "{python}" "$@"
"""


@dataclass
class Measured:
    """One process: seconds on the clock, seconds of processors (its children's too), peak memory in GB."""

    wall: float
    cpu: float
    memory: float


def study_of(runs: int, results: Path) -> dict[str, Any]:
    """A study of about this many runs: tasks × settings × variants × 10 seeds."""
    settings = max(1, runs // (len(TASKS) * len(VARIANTS) * 10))
    rates = [round(1e-4 * (number + 1), 6) for number in range(settings)]
    return {
        "name": "scale",
        "variants": VARIANTS,
        "seeds": 10,
        "tasks": {task: {"grid": {"training.learning_rate": rates}} for task in TASKS},
        "execution": {"results_folder": str(results)},
    }


def write_runs(study: StudyConfig, folder: Path) -> None:
    """Run folders with made-up results, and the study's description."""
    study.manifest().write(folder / "study.json")
    random = np.random.default_rng(0)
    for number, run in enumerate(study.runs()):
        _write_run(run, folder / run.path, float(random.normal(0.9, 0.02)), 1_800_000_000_000 + 60_000 * number)


def _write_run(run: RunConfig, folder: Path, score: float, start: int) -> None:
    folder.mkdir(parents=True)
    metrics = {"test/accuracy": score, "test/loss": 1 - score, "train/loss": 1 - score}
    data = [DataRecord(dataset="synthetic", label="generated", source="generated", sha256="0" * 64)]
    summary = Summary(
        status="finished", task=run.task, family="synthetic", setting=run.setting, variant=run.variant, seed=run.seed,
        protocol=run.protocol, config_hash=run.hash, metrics=metrics, data=data, steps=780, selected_step=780,
        primary=Primary(metric="test/accuracy", goal="max"), samples_per_second=5500.0,
        parameters=ParameterCounts(total=72586, attention=33280, formula=72586),
        seconds={"total": 21.0, "startup": 1.6, "stepping": 18.0, "evaluation": 1.0, "recording": 0.4},
    )  # fmt: skip
    provenance = Provenance(git=GitState(commit="0" * 40, dirty=False), data=data, attempts=1, device="cpu")
    points = [
        MetricPoint(key, step, (2 - score) / step, epoch=step / 390, elapsed=step / 40, time=start + step)
        for step in range(1, POINTS // 2 + 1)
        for key in ("train/loss", "validation/loss")
    ]
    files = RunFolder(folder)
    files.config_file.write_text(canonical_json({**run.model_dump(mode="json"), "hash": run.hash}), encoding="utf-8")
    files.summary_file.write_text(summary.model_dump_json(), encoding="utf-8")
    files.provenance_file.write_text(provenance.model_dump_json(), encoding="utf-8")
    files.metrics_file.write_text("".join(f"{canonical_json(point._asdict())}\n" for point in points), encoding="utf-8")


def measure(command: list[str], **options: Any) -> Measured:
    """Run a command to its end. Raises CalledProcessError where it fails."""
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, **options) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return _measured(begin, usage)


def _measured(begin: float, usage: resource.struct_rusage) -> Measured:
    return Measured(time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6)


def snakemake(folder: Path, *arguments: str, python: Path = Path(sys.executable)) -> list[str]:
    """A Snakemake command for the study of `folder`, which keeps its own records there."""
    command = [str(python), "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(ROOT / "profiles" / "default"), "--configfile", str(folder / "study.yaml")]
    return [*command, "--quiet", "all", *arguments]


def plan(folder: Path) -> Measured:
    """`snakemake -n` of all runs."""
    return measure(snakemake(folder, "--dry-run"), stderr=subprocess.DEVNULL)


def dispatch(folder: Path, cores: int) -> tuple[float, int]:
    """Runs per second that Snakemake starts and finishes, and how many were counted.

    The stand-in is called `python` and is next to a link to this interpreter: the workflow's jobs use the `python` in
    the folder of Snakemake's interpreter.
    """
    (folder / "bin").mkdir()
    (folder / "bin" / "interpreter").symlink_to(sys.executable)
    stand_in = folder / "bin" / "python"
    write_text(stand_in, STAND_IN.replace("{python}", sys.executable))
    stand_in.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)])}
    command = snakemake(folder, "--cores", str(cores), "--until", "train", python=folder / "bin" / "interpreter")
    started: list[tuple[float, int]] = []
    with (folder / "dispatch.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        runs = folder / "results" / "scale" / "logs" / "runs"
        while process.poll() is None and (not started or time.monotonic() - started[0][0] < DISPATCH_SECONDS):
            time.sleep(1)
            if done := sum(1 for _ in runs.glob("*/*/*/*.log")):
                started.append((time.monotonic(), done))
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
    if len(started) < 2:
        raise RuntimeError(f"no run was dispatched: {(folder / 'dispatch.log').read_text()[-2000:]}")
    (begin, first), (end, last) = started[0], started[-1]
    return (last - first) / (end - begin), last


def kvformer(*arguments: str) -> Measured:
    """One command of kvformer."""
    return measure([sys.executable, "-m", "kvformer", *arguments])


def page(results: Path) -> float:
    """Seconds in which MLflow's server answers what its page of an experiment asks for: page, experiments, runs."""
    store = f"sqlite:///{results / 'mlflow' / 'mlflow.db'}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--port", str(port)]
    command += ["--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                _ask(f"{address}/health")
                break
            except OSError:
                time.sleep(0.5)
        begin = time.monotonic()
        _ask(address)
        experiments = _ask(f"{address}/ajax-api/2.0/mlflow/experiments/search?max_results=25")
        ids = [experiment["experiment_id"] for experiment in json.loads(experiments)["experiments"]]
        question = {"experiment_ids": ids, "max_results": PAGE_RUNS, "order_by": ["attributes.start_time DESC"]}
        _ask(f"{address}/ajax-api/2.0/mlflow/runs/search", json.dumps(question).encode())
        return time.monotonic() - begin
    finally:
        process.terminate()
        process.wait()


def _ask(address: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def main() -> None:
    """Measure and print one line per part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000, help="runs of the study")
    parser.add_argument("--only", choices=PARTS, action="append", help="parts to measure (default all)")
    parser.add_argument("--cores", type=int, default=2, help="cores that Snakemake is given")
    options = parser.parse_args()
    wanted = options.only or list(PARTS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        raw = study_of(options.runs, Path("results"))
        write_json(folder / "study.yaml", raw)
        study = load_study(raw)
        print(f"{len(study.runs()):,} runs", flush=True)
        if "plan" in wanted:
            show("plan", plan(folder))
        if "dispatch" in wanted:
            rate, done = dispatch(folder, options.cores)
            print(f"{'dispatch':12} {rate:8.1f} runs per second ({done:,} of them)", flush=True)
            shutil.rmtree(folder / "results")
        results = folder / "results" / "scale"
        if set(wanted) & {*PARTS[2:]}:
            write_runs(study, results)
        needed = {"analyse": ["collect"], "track again": ["track"], "page": ["track"]}
        needed |= {part: ["collect", "analyse"] for part in ("tables", "figures")}
        needed_too = {before for part in wanted for before in needed.get(part, ())}
        for part in PARTS[2:-1]:
            if part in wanted or part in needed_too:
                show(part, kvformer(part.split()[0], str(results)))
        if "page" in wanted:
            print(f"{'page':12} {page(folder / 'results'):8.1f} s until MLflow's server has answered", flush=True)


def show(part: str, measured: Measured) -> None:
    """Print one line."""
    print(
        f"{part:12} {measured.wall:8.1f} s on the clock {measured.cpu:8.1f} s of processors {measured.memory:6.2f} GB",
        flush=True,
    )


if __name__ == "__main__":
    main()
