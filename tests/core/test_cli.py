"""The command line: help for everything, mistakes in one line with exit code 2, no heavy import that is not needed."""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import call, environment, tiny_run

from kvformer import cli
from kvformer.cli import INTERRUPTED, build_parser, main
from kvformer.errors import Interrupted
from kvformer.files import read_json
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS

ROOT = Path(__file__).parents[2]
COMMANDS = [
    name
    for action in build_parser()._actions
    if isinstance(action, argparse._SubParsersAction)
    for name in action.choices
]
TINY = [
    "--set", "model.dim=16", "--set", "model.layers=1", "--set", "model.heads=2", "--set", "data.length=4",
    "--set", "data.train_examples=40", "--set", "data.validation_examples=10", "--set", "data.test_examples=10",
    "--set", "training.steps=3", "--set", "training.batch_size=8",
]  # fmt: skip


def test_the_commands_of_the_contract_exist() -> None:
    expected = {
        "train", "describe", "tasks", "variants", "explain", "prepare", "cost", "collect", "tables", "figures",
        "report", "crate", "export", "compare", "track", "ui", "verify", "schema", "plan",
    }  # fmt: skip
    assert expected <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: kvformer {name}")
    sentences = text.split("options:")[0]
    assert len(sentences.splitlines()) > 2, "more than the usage line: what the command does"


def test_help_lists_every_command_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in COMMANDS:
        assert re.search(rf"\b{name} \w+ \w+", text), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "revers", "kv", "--out", "{out}"], ["no task 'revers'", "reverse"]),
        (["train", "reverse", "kvv", "--out", "{out}"], ["no variant 'kvv'", "kv_pos"]),
        (["train", "reverse", "kv", "--set", "model.dim=3", "--out", "{out}"], ["model", "dim", "3"]),
        (["train", "reverse", "kv", "--set", "modle.dim=3", "--out", "{out}"], ["modle: unknown key"]),
        (["train", "reverse", "kv", "--set", "model.dim", "--out", "{out}"], ["--set takes key=value"]),
        (["train", "reverse", "kv", "--seed", "-1", "--out", "{out}"], ["--seed: must be at least 0, not -1"]),
        (["train", "reverse", "kv", "--checkpoint-seconds", "nan", "--out", "{out}"], ["--checkpoint-seconds", "nan"]),
        (["train", "reverse", "kv", "--gpus", "-1", "--out", "{out}"], ["--gpus: must be at least 0, not -1"]),
        (["train-many", "--runs", "[]", "--attempts-left", "-1", "--out", "{out}"], ["--attempts-left", "-1"]),
        (["train", "reverse", "kv", "--config", "{out}/none.yaml", "--out", "{out}"], ["none.yaml", "cannot be read"]),
        (["train", "reverse", "kv", "--setting", "x", "--out", "{out}"], ["--setting", "'x'", "default"]),
        (["train", "--out", "{out}"], ["give a task and a variant, or --run"]),
        (["train", "reverse", "--out", "{out}"], ["give a task and a variant, or --run"]),
        (["train", "--run", "{}", "--out", "{out}"], ["--run", "is missing"]),
        (["train", "--run", "no json", "--out", "{out}"], ["--run", "JSON"]),
        (["describe", "reverse", "kvv"], ["no variant 'kvv'"]),
        (["describe", "mnist", "kv", "--set", "data.patch=5"], ["patch", "5"]),
        (["explain", "kvv"], ["'kvv'"]),
        (["plan", "{out}/none.yaml"], ["none.yaml"]),
        (["prepare", "mnits", "--out", "{out}"], ["'mnits'", "mnist"]),
        (["collect", "{out}"], ["study.json"]),
        (["tables", "{out}"], ["study.json"]),
        (["figures", "{out}"], ["study.json"]),
        (["report", "{out}"], ["study.json"]),
        (["track", "{out}"], ["study.json"]),
    ],
    ids=" ".join,
)
def test_mistakes_get_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("{out}", str(tmp_path)) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("kvformer: error: ") and all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == [], "and no file is left"


@pytest.mark.parametrize(
    "arguments", [[], ["trian"], ["train"], ["train", "--seed", "x", "--out", "y"], ["train", "--x"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_mistake_in_a_separate_process() -> None:
    result = call("train", "reverse", "kv", "--set", "model.dmi=3", "--out", "unused")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == result.stderr.splitlines()[0] + "\n"
    assert "did you mean 'dim'?" in result.stderr and "Traceback" not in result.stderr


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["train", "reverse", "kv", *TINY, "--out", str(tmp_path / "file" / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "file") in line and "Not a directory" in line


def test_a_run_trained_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "reverse", "kv", "--seed", "4", *TINY, "--out", str(tmp_path / "a run"), "--device", "cpu"]
    assert main([*arguments, "--keep-weights", "--set", "execution.checkpoint_seconds=0"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("reverse/default/kv/seed4: Write the list backwards. (protocol published")
    assert "finished: test/accuracy" in output.out.splitlines()[-1]
    assert "step 3/3 (100%)" in output.err, "without a terminal, progress is lines"
    assert read_json(tmp_path / "a run" / "config.json")["seed"] == 4
    assert (tmp_path / "a run" / "model.safetensors").exists()


def test_interrupted_and_broken_runs_have_their_own_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, code in (
        (Interrupted("stopped by SIGTERM after step 3; state saved"), INTERRUPTED),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 1),
        (OSError(28, "No space left on device", "some/file"), 2),
    ):

        def fail(options: argparse.Namespace, error: BaseException = error) -> None:
            raise error

        parser = argparse.ArgumentParser()
        parser.set_defaults(handler=fail)
        monkeypatch.setattr(cli, "build_parser", lambda names, parser=parser: parser)
        assert main([]) == code
        assert "Traceback" not in capsys.readouterr().err
    assert INTERRUPTED == 75


def test_describe_prints_the_published_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """The line of the README: 10,346 / 9,290 / 9,301 parameters."""
    for variant, count in (("qkv", 10_346), ("kv", 9_290), ("kv_pos", 9_301)):
        sizes = ["--set", "model.dim=32", "--set", "model.layers=1", "--set", "model.heads=1"]
        assert main(["describe", "reverse", variant, *sizes, "--json"]) == 0
        content = json.loads(capsys.readouterr().out)
        assert content["parameters"] == content["parameters_by_formula"] == count
        assert content["config"]["model"]["dim"] == 32 and len(content["config"]["hash"]) == 16
        total = 0
        for shape in content["shapes"].values():
            size = 1
            for length in shape:
                size *= length
            total += size
        assert total == count
        assert main(["describe", "reverse", variant, *sizes]) == 0
        assert f"parameters: {count:,}" in capsys.readouterr().out


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_described(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", task, "kv_pos", "--set", "model.layers=1"]) == 0
    assert TASKS[task].summary in capsys.readouterr().out


def test_tasks_and_variants_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(TASKS)]] == list(TASKS)
    assert main(["variants"]) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert set(VARIANTS) <= set(rows)
    # Of 12 d² a layer with an MLP of 4d, attention has 4 d²: saving a quarter of it saves a twelfth, some 0.3 % of
    # embeddings and biases apart; kv_wide spends it again.
    for name, attention, model, cache in (
        ("qkv", 1.0, 1.0, 1.0),
        ("kv", 0.75, 0.917, 1.0),
        ("k", 0.5, 0.835, 0.5),
        ("cla2", 0.75, 0.917, 0.5),
        ("kv_wide", 0.75, 1.0, 1.0),
    ):
        assert f" {attention:.3f}  {model:.3f}  {cache:.3f}  {VARIANTS[name].reference}" in rows[name], rows[name]
        assert VARIANTS[name].formula in rows[name]
    assert main(["explain", "kv_pos"]) == 0
    algebra = capsys.readouterr().out.splitlines()
    assert len(algebra) == 10 and "A_ij = softmax_j(s·S_ij + γ_j)" in algebra[5]


def test_plan_refuses_what_the_workflow_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("variants: [kv]\ntasks: {reverse: {}}\n")
    assert main(["plan", str(path)]) == 2
    assert "baseline: is qkv, which is not run in any task; allowed: kv" in capsys.readouterr().err


def test_plan_lists_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "variants: [kv]\nbaseline: kv\nseeds: 2\ntasks: {mnist: {}, reverse: {grid: {model.dim: [32, 64]}}}\n"
    )
    assert main(["plan", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and lines[-1] == "6 runs; data sets: mnist"
    assert all(re.fullmatch(r"runs/\w+/\w+/kv/seed[01] [0-9a-f]{16}", line) for line in lines[:-1])


def test_schema_names_stale_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "workflow" / "schemas").mkdir(parents=True)
    shutil.copy(ROOT / "config" / "README.md", tmp_path / "config")
    assert main(["schema", "--root", str(tmp_path)]) == 1
    assert "config.schema.yaml: is not up to date" in capsys.readouterr().out
    assert main(["schema", "--write", "--root", str(tmp_path)]) == 0
    assert main(["schema", "--root", str(tmp_path)]) == 0


HEAVY = ("torch", "torch._dynamo", "sympy", "torchvision", "mlflow", "pandas", "matplotlib", "scipy", "snakemake")


def heavy_imports(code: str) -> set[str]:
    """Which heavy packages a process has loaded after running this code."""
    script = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*[m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=True
    )
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        (
            "import kvformer.config.study, kvformer.config.loading, kvformer.config.documentation; "
            "import kvformer.config.messages, kvformer.spec.variants, kvformer.spec.formulas, kvformer.spec.sections; "
            "import kvformer.tasks, kvformer.records.manifest, kvformer.seeding",
            set(),
        ),
        ("from kvformer.cli import main; main(['train', '--help'])", set()),
        ("from kvformer.cli import main; main(['train', 'reverse', 'kvv', '--out', 'x'])", set()),
        ("from kvformer.cli import main; main(['variants'])", set()),
        ("import kvformer.training.run, kvformer.models.build", {"torch"}),
    ],
    ids=["configuration", "help", "mistake", "variants", "training"],
)
def test_nothing_heavy_is_imported_without_need(code: str, allowed: set[str]) -> None:
    assert heavy_imports(code) <= allowed


def test_training_imports_neither_torchvision_nor_mlflow_nor_pandas(tmp_path: Path, prepared: Path) -> None:
    run = tiny_run("translation_en_de")
    arguments = ["train", "--run", run.to_json(), "--out", str(tmp_path), "--data", str(prepared), "--device", "cpu"]
    assert heavy_imports(f"from kvformer.cli import main; assert main({arguments!r}) == 0") == {"torch"}
    assert (tmp_path / "summary.json").exists()
