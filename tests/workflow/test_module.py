"""Another workflow uses this one as a module: nothing of it is looked for, or written, in the wrong folder."""

import zipfile
from pathlib import Path

import pytest
import yaml
from checkout import Project, other_workflow

STUDY = {
    "name": "small",
    "seeds": 1,
    "variants": ["qkv", "kv"],
    "execution": {"device": "cpu"},
    "tasks": {
        "reverse": {
            "data": {"length": 8, "train_examples": 500, "validation_examples": 100, "test_examples": 100},
            "model": {"dim": 16, "layers": 1, "heads": 2},
            "training": {"steps": 5, "batch_size": 50, "evaluations": 1},
        }
    },
}


def theirs(target: str, **head: str) -> str:
    """The Snakefile of another workflow, whose only rule needs this target of the project."""
    return f"""{other_workflow(**head)}rule theirs:
    input:
        rules.{target},
    output:
        "theirs.txt",
    default_target: True
    shell:
        "ls {{input:q}} > {{output}}"
"""


@pytest.fixture
def outer(project: Project, tmp_path: Path) -> Project:
    """A folder of another workflow, which uses the project's as a module and knows its path only."""
    folder = tmp_path / "their folder"
    folder.mkdir()
    content = {"snakefile": str(project.folder / "Snakefile"), "kvformer": STUDY}
    (folder / "theirs.yaml").write_text(yaml.safe_dump(content))
    (folder / "Snakefile").write_text(theirs("kv_all.input"))
    return Project(folder)


def test_a_study_runs_to_its_end_and_reports_as_a_module(outer: Project, project: Project) -> None:
    result = outer.snakemake("--cores", "2")
    assert result.returncode == 0, result.stdout
    study = outer.folder / "results" / "small"
    assert {path.name for path in study.iterdir()} >= {"report.html", "tables", "figures", "ro-crate-metadata.json"}
    assert (study / "Snakefile").read_bytes() == (project.folder / "Snakefile").read_bytes(), (
        "the crate describes this workflow, not theirs"
    )
    assert "results/small/report.html" in (outer.folder / "theirs.txt").read_text()
    assert (outer.folder / "results" / "mlflow" / "mlflow.db").is_file()
    assert not (project.folder / "results").exists() and not (project.folder / ".snakemake").exists()
    assert outer.plan() == {}
    written = outer.snakemake("--report", "report.zip")
    assert written.returncode == 0, written.stdout
    with zipfile.ZipFile(outer.folder / "report.zip") as archive:
        assert archive.testzip() is None and sum(entry.file_size for entry in archive.infolist()) > 100_000


def test_a_module_works_under_its_own_names_and_in_another_directory(outer: Project, tmp_path: Path) -> None:
    (outer.folder / "Snakefile").write_text(theirs("collect.output", renamed=" exclude all"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "theirs.yaml").write_bytes((outer.folder / "theirs.yaml").read_bytes())
    result = outer.snakemake("--cores", "2", "--directory", str(elsewhere))
    assert result.returncode == 0, result.stdout
    assert "results/small/runs.csv" in (elsewhere / "theirs.txt").read_text()
    assert not (outer.folder / "results").exists()


def test_the_jobs_of_the_other_workflow_keep_their_environment(outer: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (outer.folder / "Snakefile").write_text(theirs("study.output", renamed=" exclude all"))
    with (outer.folder / "Snakefile").open("a") as stream:
        stream.write("\nimport os\nprint('KEPT', os.environ['OMP_PROC_BIND'], os.environ.get('PYTHONSAFEPATH'))\n")
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert "KEPT close None" in outer.snakemake("--dry-run").stdout


def test_rules_that_stay_on_the_login_node_do_so_under_other_names(outer: Project) -> None:
    shown = "\nprint('LOCAL', *sorted(workflow._localrules))\n"
    with (outer.folder / "Snakefile").open("a") as stream:
        stream.write(shown)
    output = outer.snakemake("--dry-run").stdout
    assert "LOCAL kv_all kv_prepare kv_study kv_track" in output and "not present" not in output


def test_a_profiles_entries_for_training_reach_trials_under_other_names(outer: Project) -> None:
    content = yaml.safe_load((outer.folder / "theirs.yaml").read_text())
    tuning = {"grid": {"training.learning_rate": [1e-3]}, "seeds": 1}
    content["kvformer"] = {**STUDY, "protocol": "corrected", "tuning": tuning}
    (outer.folder / "theirs.yaml").write_text(yaml.safe_dump(content))
    with (outer.folder / "Snakefile").open("a") as stream:
        stream.write("\nprint('RUNTIME', workflow.get_rule('kv_tune').resources['runtime'].value)\n")
    assert "RUNTIME 7" in outer.snakemake("--dry-run", "--set-resources", "kv_train:runtime=7").stdout


def test_a_prefix_is_refused_in_one_line(outer: Project) -> None:
    """Paths inside commands do not know it: data would be prepared in one place and looked for in another."""
    prefix = '    prefix: "below"\n'
    (outer.folder / "Snakefile").write_text(theirs("kv_all.input", prefix=prefix))
    result = outer.snakemake("--cores", "1")
    assert result.returncode != 0 and "Traceback" not in result.stdout
    assert "takes no prefix; give its config another execution.results_folder" in result.stdout


def test_a_mistake_in_the_config_of_the_module_is_one_line(outer: Project) -> None:
    content = yaml.safe_load((outer.folder / "theirs.yaml").read_text())
    content["kvformer"]["seeds"] = "many"
    (outer.folder / "theirs.yaml").write_text(yaml.safe_dump(content))
    result = outer.snakemake("--dry-run")
    assert result.returncode != 0 and "Traceback" not in result.stdout
    assert len([line for line in result.stdout.splitlines() if "'many'" in line]) == 1
