"""Several runs in one process: each ends as it does in a process of its own, whatever happens to the others."""

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import command, environment, results, tiny_run
from several import arguments, log_of, on_step, train

from kvformer.cli import INTERRUPTED, main
from kvformer.cli.train_many import Process, part_of
from kvformer.config.batches import batches
from kvformer.config.execution import Execution
from kvformer.config.loading import load_study
from kvformer.config.run import RunConfig, runs_from_json, runs_to_json
from kvformer.errors import ConfigError, KvformerError
from kvformer.files import read_json
from kvformer.records.run import RunFolder
from kvformer.training.identity import outdated
from kvformer.training.loop import Trainer
from kvformer.training.provenance import utc_now
from kvformer.training.signals import StopSignals

RUNS = [
    tiny_run("copy", "kv"),
    tiny_run("copy", "kv", seed=1),
    tiny_run("copy", "qkv"),
    tiny_run("copy", "qkv", seed=1),
]


def start(runs: list[RunConfig], study: Path, data: Path, *options: str) -> "subprocess.Popen[str]":
    """Train the runs in another process."""
    line = [sys.executable, "-m", "kvformer", *arguments(runs, study, data, *options)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())


def test_runs_of_one_process_equal_those_of_their_own_to_the_byte(prepared: Path, tmp_path: Path) -> None:
    """Whatever ran before: other tasks and sizes, another number of threads, bfloat16, a run that diverged."""
    dropout = {"attention_dropout": 0.1, "mlp_dropout": 0.2}
    runs = [
        tiny_run("copy", "kv_pos", model=dropout),
        tiny_run("copy", "kv", training={"learning_rate": 1e38, "steps": 40, "clip_norm": None}),
        tiny_run("reverse", "kv", training={"threads": 2}, model={"dim": 64}, data={"length": 32}),
        tiny_run("mnist", "qkv", training={"precision": "bf16"}),
        tiny_run("translation_en_de", "kv"),
        tiny_run("copy", "kv_pos", seed=1, model=dropout),
    ]
    process = start(runs, tmp_path / "study", prepared)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    for number, run in enumerate(runs[2:]):
        single = subprocess.run(command(run, tmp_path / str(number), prepared), env=environment(), check=False)
        assert single.returncode == 0
        assert results(tmp_path / "study" / run.path) == results(tmp_path / str(number)), run.path
        assert "step 7/7" in (log := log_of(tmp_path / "study", run)) and "finished: " in log
    diverged = read_json(tmp_path / "study" / runs[1].path / "summary.json")
    assert diverged["status"] == "diverged" and "diverged: test/accuracy none" in printed


def test_a_failed_run_does_not_stop_the_others(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = RUNS[2]

    def fail(run: RunConfig, step: int) -> None:
        if run == broken:
            raise ZeroDivisionError("it went wrong")

    with monkeypatch.context() as patch:
        on_step(patch, fail)
        assert train(RUNS, tmp_path / "study", prepared) == 1
    printed = capsys.readouterr().out
    assert printed.count("finished: test/accuracy") == 2
    assert "failed: ZeroDivisionError: it went wrong; see" in printed
    assert "failed: not started: seed 0 failed (ZeroDivisionError: it went wrong)" in printed, "seed 1 of its cell"
    assert "Traceback" not in printed and "Traceback" in log_of(tmp_path / "study", broken)
    folders = [RunFolder(tmp_path / "study" / run.path) for run in RUNS]
    states = [folder.outcome(run.hash)[0] for folder, run in zip(folders, RUNS, strict=True)]
    assert states == ["finished", "finished", "failed", "not started"]

    before = [folder.summary_file.stat().st_mtime_ns for folder in folders[:2]]
    assert train(RUNS, tmp_path / "study", prepared) == 0
    assert [folder.summary_file.stat().st_mtime_ns for folder in folders[:2]] == before, "they are left as they are"
    assert capsys.readouterr().out.count("finished: test/accuracy") == 4
    assert not any(folder.failure_file.exists() for folder in folders)


def wait_for_step(process: "subprocess.Popen[str]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while not (log.exists() and "step " in log.read_text(encoding="utf-8")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_a_stopped_process_continues_with_the_run_that_it_was_in(
    number: signal.Signals, prepared: Path, tmp_path: Path
) -> None:
    long = {"steps": 400, "evaluations": 100}
    runs = [tiny_run("copy", "kv", seed=seed, training=long if seed == 1 else {}) for seed in range(3)]
    study = tmp_path / "study"
    process = start(runs, study, prepared, "--checkpoint-seconds", "0")
    wait_for_step(process, study / "logs" / f"{runs[1].path}.log")
    process.send_signal(number)
    printed, _ = process.communicate()
    if number != signal.SIGKILL:
        assert process.returncode == INTERRUPTED
        assert f"kvformer: stopped by {number.name} after step" in printed
    first, second, third = (RunFolder(study / run.path) for run in runs)
    assert first.summary_file.exists() and second.checkpoint_file.exists() and not third.path.exists()

    trained = first.summary_file.stat().st_mtime_ns
    assert train(runs, study, prepared) == 0
    assert first.summary_file.stat().st_mtime_ns == trained
    assert read_json(second.provenance_file)["attempts"] == 2
    assert train(runs, tmp_path / "whole", prepared, "--no-reuse") == 0
    for run in runs:
        assert results(study / run.path) == results(tmp_path / "whole" / run.path)


def test_a_signal_while_results_are_written_stops_before_the_next_run(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = Trainer._finish

    def finish(self: Trainer, log: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, log)

    monkeypatch.setattr(Trainer, "_finish", finish)
    assert train(RUNS, tmp_path / "study", prepared) == INTERRUPTED
    assert capsys.readouterr().err == "kvformer: stopped by SIGTERM between two runs\n"
    assert [(tmp_path / "study" / run.path).exists() for run in RUNS] == [True, False, False, False]


def test_deleted_outputs_are_taken_over_and_only_the_rest_is_trained(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after Snakemake has deleted outputs of a failed job; --no-reuse trains again what an earlier study left."""
    study, trained = tmp_path / "study", list[str]()
    on_step(monkeypatch, lambda run, step: trained.append(run.path) if step == 0 else None)
    assert train(RUNS[:2], study, prepared) == 0
    whole = [results(study / run.path) for run in RUNS[:2]]
    for options, expected in ((), [RUNS[2].path]), (("--no-reuse",), [run.path for run in RUNS[:3]]):
        for run in RUNS[:2]:
            for path in (study / run.path).iterdir():
                path.unlink()
        trained.clear()
        time.sleep(1.1 if options else 0)  # times of files are compared in whole seconds
        began = utc_now()
        assert train(RUNS[:3], study, prepared, *options) == 0
        assert trained == (expected if not options else expected[:2])
        assert [results(study / run.path) for run in RUNS[:2]] == whole
    capsys.readouterr()

    for path in (study / RUNS[0].path).iterdir():
        path.unlink()
    trained.clear()
    assert train(RUNS[:2], study, prepared, "--no-reuse", "--study-started", began) == 0
    assert trained == [], "a retry in the same study takes over what was trained before it"
    assert "taken over from study" in capsys.readouterr().out


def test_a_run_of_other_code_or_data_is_trained_again(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("mnist")
    assert train([run], tmp_path / "study", prepared) == 0
    folder = RunFolder(tmp_path / "study" / run.path)
    provenance = folder.provenance()
    assert provenance is not None and provenance.identity is not None
    same = {"mnist": provenance.identity.data[0]}
    assert not outdated(run, folder) and not outdated(run, folder, same)
    assert outdated(run, folder, {"mnist": "another"}) and outdated(run, folder, {})
    assert outdated(tiny_run("mnist", training={"steps": 3}), folder)
    assert not outdated(run, RunFolder(tmp_path / "nothing"))
    provenance.model_copy(update={"identity": None}).write(folder.provenance_file)
    assert not outdated(tiny_run("mnist", training={"steps": 3}), folder), "version 1 did not record it"


def test_what_is_archived_is_taken_over_without_pytorch(prepared: Path, tmp_path: Path) -> None:
    assert train(RUNS[:2], tmp_path / "study", prepared) == 0
    code = "import sys; from kvformer.cli import main; code = main(sys.argv[1:]); assert 'torch' not in sys.modules"
    line = [sys.executable, "-c", f"{code}; sys.exit(code)", *arguments(RUNS[:2], tmp_path / "second", prepared)]
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("taken over from study") == 2


STUDY: dict[str, Any] = {
    "name": "shared",
    "seeds": 3,
    "variants": ["qkv", "kv"],
    "tasks": {
        name: {
            "data": {"length": 4, "train_examples": 40, "validation_examples": 20, "test_examples": 20},
            "model": {"dim": 16, "layers": 1, "heads": 2},
            "training": {"steps": 3, "batch_size": 8, "evaluations": 1},
        }
        for name in ("copy", "reverse")
    },
    "execution": {"device": "cpu"},
}


def test_a_study_is_trained_in_parts_without_snakemake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its file, and from its study.json on a machine that may have no YAML."""
    monkeypatch.chdir(tmp_path)
    Path("shared.json").write_text(json.dumps(STUDY))
    runs = load_study(STUDY).runs()
    assert main(["train-many", "shared.json", "--part", "2/3"]) == 0
    done = [run.path for run in runs if Path("results/shared", run.path, "summary.json").exists()]
    assert done == [run.path for run in part_of(runs, "2/3")] and len(done) == 3

    assert main(["plan", "shared.json", "--json"]) == 0
    folder = Path("results/shared")
    (folder / "study.json").write_text(capsys.readouterr().out.splitlines()[-1])
    assert main(["train-many", str(folder / "study.json"), "--device", "cpu"]) == 0
    assert all((folder / run.path / "summary.json").exists() for run in runs)
    assert len([*Path("results/archive").iterdir()]) == 12


def test_a_task_without_data_is_left_out_or_is_an_error_as_the_study_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tasks = {**STUDY["tasks"], "cifar10": {"data": {"dataset": "cifar10_jpeg"}}}
    Path("shared.json").write_text(json.dumps({**STUDY, "tasks": tasks}))
    assert main(["train-many", "shared.json"]) == 2
    assert "`on_missing: skip` leaves out cifar10" in capsys.readouterr().err
    Path("shared.json").write_text(json.dumps({**STUDY, "tasks": tasks, "on_missing": "skip"}))
    assert main(["train-many", "shared.json", "--part", "1/12"]) == 0
    assert "cifar10 is left out: " in capsys.readouterr().err


def test_a_bare_machine_needs_only_what_training_needs(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "shared"
    load_study(STUDY).manifest().write(folder / "study.json")
    missing = ("snakemake", "mlflow", "torchvision", "pandas", "yaml", "scipy", "matplotlib", "psutil")
    hide = f"import sys; sys.modules.update(dict.fromkeys({missing}))"
    code = f"{hide}; from kvformer.cli import main; sys.exit(main(sys.argv[1:]))"
    line = [sys.executable, "-c", code, "train-many", str(folder / "study.json"), "--part", "4/4"]
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished: test/accuracy") == 3


def test_with_looks_only_what_is_asked_for_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shared.json").write_text(json.dumps({**STUDY, "seeds": {"looks": [2, 4]}}))
    assert main(["train-many", "shared.json"]) == 0
    assert sorted({path.parent.name for path in Path("results/shared/runs").rglob("summary.json")}) == [
        "seed0",
        "seed1",
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 12, 20])
def test_parts_are_whole_cells_where_there_are_enough(count: int) -> None:
    runs = load_study(STUDY).runs()
    parts = [part_of(runs, f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted(run.path for part in parts for run in part) == sorted(run.path for run in runs)
    assert max(map(len, parts)) == {1: 12, 2: 6, 3: 6, 4: 3, 5: 3, 12: 1, 20: 1}[count]
    cells = [{str(Path(run.path).parent) for run in part} for part in parts]
    assert (sum(map(len, cells)) == 4) == (count <= 4)


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", ""])
def test_a_part_that_there_is_not_is_refused(part: str) -> None:
    with pytest.raises(ConfigError, match=r"--part: is .* allowed: i/n with i from 1 to n, e.g. 2/8"):
        part_of(RUNS, part)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "give a study"),
        (["--runs", "[]"], "--runs also needs --out"),
        (["--runs", "[]", "--out", "."], "--runs: is not a JSON list of runs"),
        (["--runs", "7", "--out", "."], "--runs: is not a JSON list of runs"),
        (["--runs", '[{"task": "copy"}]', "--out", "."], "--runs: "),
        (["nothing.yaml"], "nothing.yaml: cannot be read"),
        (["nothing/study.json"], "study.json: no such file"),
    ],
)
def test_a_mistake_is_one_line(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-many", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kvformer: error: ") and said in line


@pytest.mark.parametrize("value", [0, -1, 101, "many", 1.5])
def test_runs_per_job_has_limits(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"execution\.runs_per_job") as error:
        load_study({**STUDY, "execution": {"runs_per_job": value}})
    assert "\n" not in str(error.value)


def test_runs_survive_their_json() -> None:
    runs = [*RUNS, tiny_run("mnist"), tiny_run("characters", "k", training={"steps": 1})]
    assert runs_from_json(runs_to_json(runs)) == runs
    assert len(runs_to_json(RUNS * 20)) < 10_000, "a command has room for 128 KB"


def test_a_process_that_lost_its_gpu_leaves_the_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(device: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")

    process = Process(Namespace(), Execution(), StopSignals(), ExitStack())
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    process._check_device()
    process.device = torch.device("cpu")
    process._check_device()
    process.device = torch.device("cuda", 0)
    with pytest.raises(KvformerError, match=r"illegal memory access was encountered.*the other runs are left"):
        process._check_device()


def test_jobs_are_of_one_setting_and_of_nearly_equal_length() -> None:
    runs = load_study(STUDY).runs()
    jobs = [*batches(runs, 4)]
    assert [job.tasks for job in jobs] == [("copy", "reverse")] * 2 or [job.tasks for job in jobs] == [
        ("reverse", "copy")
    ] * 2
    assert [job.members for job in jobs] == [(("qkv", 0), ("qkv", 1), ("qkv", 2)), (("kv", 0), ("kv", 1), ("kv", 2))]
    assert [len(job.members) for job in batches(runs, 5)] == [3, 3]
    assert [len(job.members) for job in batches(runs, 100)] == [6]
    assert [len(job.members) for job in batches(runs, 1)] == [1] * 6
    other = {**STUDY["tasks"]["copy"], "variants": ["qkv"], "seeds": [4]}
    apart = [*batches(load_study({**STUDY, "tasks": {**STUDY["tasks"], "sort": other}}).runs(), 100)]
    assert {job.tasks: len(job.members) for job in apart}[("sort",)] == 1 and len(apart) == 2


def test_jobs_do_not_mix_looks_and_later_ones_do_not_mix_variants() -> None:
    members = [job.members for job in batches(load_study(STUDY).runs(), 8, looks=[1, 3])]
    assert members == [
        (("qkv", 0), ("kv", 0)),
        (("qkv", 1), ("qkv", 2)),
        (("kv", 1), ("kv", 2)),
    ]
