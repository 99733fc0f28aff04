"""What Snakemake plans in a fresh folder, and what it says when it cannot."""

import re
import shutil

import pytest

STUDY = {
    "name": "small",
    "seeds": 1,
    "variants": ["qkv", "kv"],
    "tasks": {
        "reverse": {
            "data": {"length": 8, "train_examples": 500, "validation_examples": 100, "test_examples": 100},
            "model": {"dim": 16, "layers": 1, "heads": 2},
            "training": {"steps": 5, "batch_size": 50, "evaluations": 1},
        }
    },
}


def test_the_default_study_is_planned_in_full(project):
    plan = project.plan()
    assert plan["train"] == 5 * 3 * 8
    assert plan["prepare"] == 2
    assert plan["all"] == plan["study"] == plan["collect"] == plan["track"] == 1


def test_a_given_file_replaces_the_default_one(project):
    assert project.plan(*project.study(STUDY))["train"] == 2


def test_tables_and_report_depend_on_all_files_that_they_read(project):
    def files(*where):
        option, study = project.study(STUDY)
        graph = project.snakemake("--filegraph", option, str(project.folder / study), *where)
        assert graph.returncode == 0, graph.stdout
        rules = (block.partition("<") for block in graph.stdout.split('<font point-size="18">')[1:])
        return {rule: set(re.findall(r'"monospace">(.+?)</font>', table)) for rule, _, table in rules}

    lock = project.folder / "requirements.lock"
    lock.touch()
    found = files()
    assert "config/published.csv" in found["analyse"]
    assert {"src/kvformer/reporting/templates/report.html.j2", "requirements.lock"} <= found["report"]
    elsewhere = project.folder.parent / "elsewhere"
    found = files("--directory", str(elsewhere), "--profile", str(project.folder / "profiles" / "default"))
    assert "../a folder/config/published.csv" in found["analyse"], "the one next to the Snakefile"
    (elsewhere / "config").mkdir()
    (elsewhere / "config" / "published.csv").touch()
    found = files("--directory", str(elsewhere), "--profile", str(project.folder / "profiles" / "default"))
    assert "config/published.csv" in found["analyse"], "that of the working directory comes first"
    lock.unlink()
    (project.folder / "config" / "published.csv").unlink()
    found = files()
    assert not {"config/published.csv", "requirements.lock"} & (found["analyse"] | found["report"])


def test_the_profile_is_used_automatically(project):
    assert "Using workflow specific profile profiles/default" in project.snakemake("--dry-run").stdout


def test_runs_with_longer_time_limits_start_first(project):
    tasks = {
        name: {**STUDY["tasks"]["reverse"], "resources": {"runtime": runtime}}
        for name, runtime in (("reverse", 10), ("copy", 60), ("sort", 5), ("swap", 600))
    }
    study = project.study(STUDY | {"tasks": tasks, "variants": ["qkv"]})
    runs = [f"results/small/runs/{task}/default/qkv/seed0/summary.json" for task in tasks]
    result = project.snakemake("--cores", "1", *study, "--", *runs)
    assert result.returncode == 0, result.stdout
    assert re.findall(r"Train qkv on (\w+)", result.stdout) == ["swap", "copy", "reverse", "sort"]


def test_results_can_be_made_in_a_folder_without_the_project(project, tmp_path):
    study = project.study(STUDY)
    elsewhere = tmp_path / "elsewhere"
    where = ("--directory", str(elsewhere), "--profile", str(project.folder / "profiles" / "default"))
    result = project.snakemake(*where, study[0], str(project.folder / study[1]), "--cores", "2")
    assert result.returncode == 0, result.stdout
    assert {path.name for path in (elsewhere / "results" / "small").iterdir()} >= {"report.html", "Snakefile", "tables"}
    assert not (project.folder / "results").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tasks": {"revers": {}}}, "revers"),
        ({"seeds": "many"}, "many"),
        ({"tasks": {"reverse": {"model": {"dim": 30, "heads": 4}}}}, "multiple of heads"),
        ({"variants": ["qkv", "kw"]}, "'kw'"),
    ],
)
def test_a_mistake_stops_everything_with_one_line(project, change, said):
    result = project.snakemake("--cores", "1", *project.study({**STUDY, **change}))
    assert result.returncode != 0
    assert "Traceback" not in result.stdout
    lines = [line for line in result.stdout.splitlines() if said in line]
    assert len(lines) == 1
    assert not (project.folder / "results").exists()


def test_a_failed_run_is_reported_and_the_others_are_kept(project):
    config = project.study(STUDY)
    runs = project.folder / "results" / "small" / "runs" / "reverse" / "default"
    (runs / "kv" / "seed0").mkdir(parents=True)
    obstacle = runs / "kv" / "seed0" / "progress"
    obstacle.write_text("a file where the trainer needs a folder")

    result = project.snakemake("--cores", "2", "--retries", "0", *config)
    assert result.returncode != 0
    assert "The study is incomplete" in result.stdout
    assert (runs / "qkv" / "seed0" / "summary.json").is_file()
    table = (project.folder / "results" / "small" / "runs.csv").read_text()
    assert ",finished," in table
    assert ",failed," in table or ",missing," in table
    assert (project.folder / "results" / "small" / "report.html").is_file()

    obstacle.unlink()
    plan = project.plan(*config)
    assert plan["train"] == 1
    assert plan["collect"] == 1


def test_a_study_that_is_edited_after_snakemake_lost_its_records_is_written_down_again(project):
    """The same study is not, and what is written down is collected again."""
    study = {**STUDY, "equivalence_margin": {"accuracy": 0.01}, "execution": {"device": "cpu"}}
    collected = ("--", "results/small/runs.csv")
    result = project.snakemake("--cores", "2", *project.study(study), *collected)
    assert result.returncode == 0, result.stdout
    shutil.rmtree(project.folder / ".snakemake")
    assert project.plan(*project.study(study), *collected) == {}
    edited = project.study({**study, "equivalence_margin": {"accuracy": 0.02}})
    assert project.plan(*edited, *collected) == {"study": 1, "collect": 1}
    (project.folder / "results" / "small" / "study.json").write_text("{")
    assert project.plan(*project.study(study), *collected) == {"study": 1, "collect": 1}
