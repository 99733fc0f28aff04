"""The whole workflow on a small study, in a folder with a space in its name."""

import csv
import json
import shutil
import sqlite3

import pytest
import yaml
from checkout import Project

SMOKE = ("--configfile", "config/smoke.yaml")


def test_every_result_is_there(finished):
    study = finished.folder / "results" / "smoke"
    runs = json.loads((study / "study.json").read_text())["runs"]
    assert len(runs) == 18
    for run in runs:
        folder = study / run["path"]
        present = {path.name for path in folder.iterdir()}
        assert {"config.json", "metrics.jsonl", "summary.json", "provenance.json", "attention.npz"} <= present
        assert "progress" not in present
        assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    with (study / "runs.csv").open() as stream:
        assert {row["status"] for row in csv.DictReader(stream)} == {"finished"}
    for folder, endings in (("tables", {".csv", ".md", ".tex"}), ("figures", {".png", ".svg", ".pdf"})):
        assert {path.suffix for path in (study / folder).iterdir()} >= endings
    with (study / "cost.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 9
    assert (study / "report.html").stat().st_size > 10_000


def test_runs_are_in_mlflow_and_nowhere_else(finished):
    with sqlite3.connect(finished.folder / "results" / "mlflow" / "mlflow.db") as store:
        assert store.execute("select count(*) from runs where name like '%/seed_'").fetchone() == (18,)
    assert not (finished.folder / "mlruns").exists()
    assert not (finished.folder / "mlflow.db").exists()


def test_every_job_logged_what_it_printed(finished):
    study = finished.folder / "results" / "smoke"
    log = (study / "logs" / "runs" / "reverse" / "default" / "kv" / "seed0.log").read_text()
    assert "step 40/40" in log, "progress goes to standard error"
    assert "finished:" in log, "the summary goes to standard output"
    assert len(list((study / "benchmarks").rglob("*.jsonl"))) == 18


def test_the_user_is_told_the_next_steps(finished):
    output = finished.output("first.txt")
    assert "results/smoke/report.html" in output
    assert "Study 'smoke' is complete: 18 runs" in output
    assert "kvformer ui" in output
    assert "mlflow ui --backend-store-uri sqlite:///results/mlflow/mlflow.db" in output


def test_a_part_of_a_finished_study_does_not_make_it_complete(finished, tmp_path):
    project = Project(shutil.copytree(finished.folder, tmp_path / "a folder"))
    result = project.snakemake("--cores", "2", "--forcerun", "collect", "--until", "collect", *SMOKE)
    assert result.returncode == 0 and "Collect the runs into one table" in result.stdout
    assert "is complete" not in result.stdout


def test_a_second_run_has_nothing_to_do(finished):
    result = finished.snakemake("--cores", "2", *SMOKE)
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout


def test_a_new_seed_plans_its_runs_and_the_aggregation(finished):
    plan = finished.plan(*SMOKE, "--config", "seeds=3")
    once = ("study", "collect", "analyse", "tables", "figures", "report", "crate", "track", "all")
    assert plan == {"train": 9, **dict.fromkeys(once, 1)}


@pytest.fixture
def study(finished):
    """The smoke study, to be changed."""
    return yaml.safe_load((finished.folder / "config" / "smoke.yaml").read_text(encoding="utf-8"))


def test_how_jobs_run_plans_nothing(finished, study):
    study["execution"] = {
        "device": "cpu",
        "tracking_uri": "http://127.0.0.1:1",
        "data_folder": "elsewhere",
        "checkpoint_seconds": 5.0,
        "compile": "reduce-overhead",
        "keep_weights": True,
    }
    study["tasks"]["reverse"]["resources"] = {"mem_mb": 3000, "runtime": 5}
    assert finished.plan(*finished.study(study)) == {}


def test_a_learning_rate_plans_its_task_only(finished, study):
    study["tasks"]["reverse"]["training"]["learning_rate"] = 0.002
    result = finished.snakemake("--dry-run", *finished.study(study))
    trained = [line for line in result.stdout.splitlines() if ": Train " in line]
    assert len(trained) == 6
    assert all(" on reverse " in line for line in trained)


def test_touched_code_plans_nothing(finished):
    for path in (finished.folder / "src").rglob("*.py"):
        path.touch()
    assert finished.plan(*SMOKE) == {}


def _plan_after(project, edit, *names):
    """What is planned after an edit of the text of some files of the package (default: all)."""
    package = project.folder / "src" / "kvformer"
    texts = {path: path.read_text(encoding="utf-8") for path in map(package.joinpath, names or package.rglob("*.py"))}
    try:
        for path, text in texts.items():
            assert edit(text) != text
            path.write_text(edit(text), encoding="utf-8")
        return project.plan(*SMOKE)
    finally:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")


def _replace(old, new):
    return lambda text: text.replace(old, new, 1)


def test_comments_docstrings_and_layout_plan_nothing(finished):
    def edit(text):
        return "# a remark\n\n" + text.replace('"""', '"""Other words. ', 1).replace("\ndef ", "\n\n\ndef ")

    assert _plan_after(finished, edit) == {}


def test_an_operator_in_training_plans_training_and_what_follows(finished):
    plan = _plan_after(finished, _replace("return peak * rise\n", "return peak + rise\n"), "training/schedules.py")
    assert plan["train"] == 18
    assert {"collect", "tables", "report", "track"} <= set(plan)


def test_an_operator_in_a_task_plans_the_tasks_of_its_file(finished):
    plan = _plan_after(finished, _replace("lists.shape[1] // 2", "lists.shape[1] % 2"), "tasks/synthetic.py")
    assert plan["train"] == 6


def test_code_of_the_tables_plans_reporting_only(finished):
    plan = _plan_after(finished, lambda text: f"{text}\nUNUSED = 1 + 1\n", "reporting/tables.py")
    assert plan["tables"] == 1
    assert not {"train", "cost", "collect"} & set(plan)


def test_a_changed_variant_plans_its_runs_and_the_costs(finished):
    def edit(text):
        return f"{text}\nfrom dataclasses import replace\nVARIANTS['kv'] = replace(VARIANTS['kv'], widen_mlp=True)\n"

    plan = _plan_after(finished, edit, "spec/variants.py")
    assert plan["train"] == 6
    assert plan["cost"] == 1


def test_a_changed_margin_trains_and_measures_nothing(finished, study):
    study["equivalence_margin"] = {"accuracy": 0.02}
    plan = finished.plan(*finished.study(study))
    assert plan["study"] == plan["tables"] == 1
    assert not {"train", "cost"} & set(plan)


def test_snakemake_can_write_its_own_report(finished):
    result = finished.snakemake(*SMOKE, "--report", "report.zip")
    assert result.returncode == 0, result.stdout
    assert (finished.folder / "report.zip").stat().st_size > 100_000
