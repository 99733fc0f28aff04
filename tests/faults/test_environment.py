"""What a notebook, a batch script or a shell left in the environment changes no result, and breaks no job."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import Project
from runs import command, environment, results, tiny_run

from kvformer.environment import FIXED, REMOVED
from kvformer.training.run import train_run

LATIN = {"PYTHONIOENCODING": "latin-1"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # as Python has it on an ASCII terminal
INHERITED = {
    "MPLBACKEND": "module://a_notebook.backend",
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "3"),
    **dict.fromkeys(("OMP_PROC_BIND", "OMP_DYNAMIC", "MLFLOW_ENABLE_ASYNC_LOGGING"), "true"),
    "OMP_PLACES": "cores",
    "GOMP_CPU_AFFINITY": "0",
    "KMP_AFFINITY": "compact",
    "PYTHONHASHSEED": "7",
    "PYTHONOPTIMIZE": "2",
    "PYTHONIOENCODING": "ascii:strict",
    **dict.fromkeys(("LC_ALL", "LANG"), "C"),
    "TZ": "Asia/Kolkata",
    "MLFLOW_RUN_ID": "0",
    "MLFLOW_EXPERIMENT_NAME": "theirs",
    "MLFLOW_EXPERIMENT_ID": "17",
    "MLFLOW_REGISTRY_URI": "databricks",
}


def kvformer(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[bytes]":
    """`kvformer …` in a process of its own, which inherits these variables."""
    line = [sys.executable, "-m", "kvformer", *arguments]
    return subprocess.run(line, capture_output=True, env={**environment(), **variables}, check=False)


@pytest.mark.parametrize("variables", [LATIN, ASCII, {"LC_ALL": "C"}], ids=["latin-1", "ascii", "C"])
@pytest.mark.parametrize("arguments", [["explain", "kv_pos"], ["variants"]], ids=" ".join)
def test_what_the_terminal_cannot_show_is_replaced(arguments: list[str], variables: dict[str, str]) -> None:
    result = kvformer(*arguments, **variables)
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode("latin-1" if variables is LATIN else "utf-8")
    assert ("\\u03b3" in text) == (variables in (LATIN, ASCII))
    assert len(text.splitlines()) >= 10, "nothing is lost but these characters"


@pytest.mark.parametrize("variables", [LATIN, ASCII], ids=["latin-1", "ascii"])
def test_a_mistake_that_the_terminal_cannot_show_is_one_line(variables: dict[str, str]) -> None:
    result = kvformer("plan", "日本\udcff.yaml", **variables)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(b"kvformer: error: ") and b".yaml: cannot be read" in line


@pytest.mark.parametrize("variables", [{"PYTHONWARNINGS": "error"}, {"PYTHONOPTIMIZE": "2"}, {"PYTHONHASHSEED": "3"}])
def test_commands_work_whatever_the_interpreter_is_told(variables: dict[str, str], tmp_path: Path) -> None:
    result = kvformer("describe", "reverse", "kv", **variables)
    assert result.returncode == 0 and b"parameters: " in result.stdout, result.stderr
    assert kvformer("--help", **variables).returncode == 0


def test_an_inherited_environment_does_not_change_a_run(prepared: Path, tmp_path: Path) -> None:
    """Not a byte of its metrics, weights and attention maps."""
    run = tiny_run("translation_en_de")
    train_run(run, tmp_path / "plain", prepared, device="cpu", keep_weights=True)
    line = command(run, tmp_path / "inherited", prepared)
    done = subprocess.run(line, env={**environment(), **INHERITED, "PYTHONWARNINGS": "error"}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "inherited") == results(tmp_path / "plain")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.parametrize("variable", ["OMP_PROC_BIND=true", "GOMP_CPU_AFFINITY=0", "OMP_PLACES={0}"])
def test_runs_are_not_tied_to_one_core(variable: str, prepared: Path, tmp_path: Path) -> None:
    """OpenMP binds the first thread of every process to the first core: all runs of a study would share it."""
    arguments = command(tiny_run("copy"), tmp_path, prepared)[2:]
    code = (
        f"import os, sys; sys.argv = {arguments!r}; from kvformer.cli import main; code = main(); "
        "print('CORES', code, *sorted(os.sched_getaffinity(0)))"
    )
    line = [sys.executable, "-c", code]
    variables = dict([variable.split("=")])
    done = subprocess.run(line, env={**environment(), **variables}, capture_output=True, text=True)
    assert f"CORES 0 {' '.join(map(str, sorted(os.sched_getaffinity(0))))}\n" in done.stdout, done.stdout + done.stderr


def test_what_a_user_chooses_by_the_environment_is_kept() -> None:
    chosen = {"CUDA_VISIBLE_DEVICES", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "HTTPS_PROXY", "TMPDIR"}
    assert not chosen & {*FIXED, *REMOVED}
    code = "from kvformer.environment import settle; import os; settle(); print(os.environ['CUDA_VISIBLE_DEVICES'])"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env={**environment(), "CUDA_VISIBLE_DEVICES": "1,0"}, capture_output=True, text=True)
    assert done.stdout == "1,0\n"


def test_a_study_started_from_a_notebook_ends_as_any_other(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rules: figures without the notebook's backend, runs in the study's experiment, logs in UTF-8. A file that is
    called like a package lies in the working directory."""
    section = {
        "data": {"length": 8, "train_examples": 500, "validation_examples": 100, "test_examples": 100},
        "model": {"dim": 16, "layers": 1, "heads": 2},
        "training": {"steps": 5, "batch_size": 50, "evaluations": 1},
    }
    study: dict[str, Any] = {"name": "small", "seeds": 1, "variants": ["qkv", "kv_pos"], "tasks": {"reverse": section}}
    (project.folder / "torch.py").write_text("raise ImportError('a file of the user, not the package')\n")
    for name, value in INHERITED.items():
        monkeypatch.setenv(name, value)
    result = project.snakemake("--cores", "2", *project.study({**study, "execution": {"device": "cpu"}}))
    assert result.returncode == 0, result.stdout[-3000:]
    folder = project.folder / "results" / "small"
    assert (folder / "report.html").is_file() and list((folder / "figures").glob("*.svg"))
    assert "2 runs added" in (folder / "logs" / "track.log").read_text(encoding="utf-8")
