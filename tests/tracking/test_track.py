"""track: after it, MLflow shows what the run folders hold, once, whatever it showed before."""

import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_runs import EPOCH, FINAL_POINTS, FakeRun, curve_points, write_report, write_study

from kvformer import tracking
from kvformer.errors import ConfigError, KvformerError
from kvformer.files import write_text
from kvformer.records.metrics import MetricPoint
from kvformer.tracking.ingest import Ingestion

Export = Callable[..., dict[str, dict[str, Any]]]
NAME = "reverse/default/kv/seed0"


def small_study(study: Path) -> list[FakeRun]:
    """Two finished runs, one diverged, one failed, one in progress, one not started."""
    names = [f"{task}/default/kv/seed{seed}" for task in ("reverse", "mnist") for seed in range(3)]
    runs = [FakeRun(study, name) for name in names]
    runs[0].finish(curve_points(50))
    runs[1].finish(curve_points(50))
    runs[2].finish([*curve_points(20), MetricPoint("train/loss", 99, math.inf, time=EPOCH)], "diverged")
    runs[3].begin().log(curve_points(20)).fail()
    runs[4].begin().log(curve_points(20))
    write_study(study, runs)
    write_report(study)
    return runs


def test_everything_is_there_once(cold_study: Path, export: Export) -> None:
    study = cold_study
    runs = small_study(study)
    report = tracking.track([study])
    assert (report.added, report.updated, report.unfinished, report.missing, report.problems) == (4, 0, 1, 1, [])
    first = export(study)
    assert set(first) == {run.key for run in runs[:4]} | {"study@demo"}
    assert [first[run.key]["status"] for run in runs[:4]] == ["FINISHED", "FINISHED", "FAILED", "FAILED"]
    assert [len(first[run.key]["points"]) for run in runs[:4]] == [50 + FINAL_POINTS] * 2 + [21 + FINAL_POINTS, 20]
    finished = first[runs[0].key]
    assert (finished["name"], finished["start"], finished["end"]) == (runs[0].name, 1795563900000, 1795565400000)
    assert ("train/loss", 10, 0.1, EPOCH + 10_000) in finished["points"]
    assert finished["artifacts"] == ["attention.npz", "config.json", "provenance.json", "samples.json", "summary.json"]
    assert first["study@demo"]["artifacts"] == ["figures/loss.svg", "report.html", "study.json", "tables/synthetic.csv"]
    assert first["study@demo"]["tags"]["runs_missing"] == "1"

    again = tracking.track([study])
    assert (again.added, again.updated, again.points, again.unchanged) == (0, 0, 0, 4)
    assert export(study) == first


def test_nothing_new_asks_the_store_for_no_run(cold_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a look at 10,000 known runs takes seconds: one request for the experiment, none for runs or points."""
    study = cold_study
    small_study(study)
    tracking.track([study])
    from mlflow import MlflowClient

    for request in ("search_runs", "get_run", "get_metric_history", "log_batch", "create_run", "set_tag"):
        monkeypatch.setattr(MlflowClient, request, lambda *arguments, **options: pytest.fail("a run is asked for"))
    assert tracking.track([study]).unchanged == 4


def test_a_new_run_is_one_batch(cold_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All points, parameters and tags of a run go to the store in one request."""
    study = cold_study
    small_study(study)
    from mlflow import MlflowClient

    batches: list[str] = []
    log_batch = MlflowClient.log_batch
    monkeypatch.setattr(
        MlflowClient, "log_batch", lambda client, run, **what: (batches.append(run), log_batch(client, run, **what))
    )
    assert tracking.track([study]).added == 4
    assert len(batches) == len(set(batches)) == 4 + 2 + 1  # and the cells and the study itself


def test_the_database_may_be_deleted(cold_study: Path, export: Export) -> None:
    study = cold_study
    small_study(study)
    tracking.track([study], live=True)
    first = export(study)
    assert len(first) == 6
    for lost in ("mlflow.db", "mlflow.db.lock", "."):
        path = study.parent / "mlflow" / lost
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        tracking.track([study], live=True)
        assert export(study) == first, lost


def test_a_run_in_progress_is_followed_and_each_point_is_there_once(study: Path, export: Export) -> None:
    points = curve_points(50)
    run = FakeRun(study, NAME).begin().log(points[:10])
    write_study(study, [run])
    assert tracking.track([study]).added == 0
    assert tracking.track([study], live=True).points == 10
    run.log(points[10:23], torn='{"step": ')
    assert tracking.track([study], live=True).points == 13
    seen = export(study)[run.key]
    assert (seen["status"], seen["end"], len(seen["points"])) == ("RUNNING", None, 23)
    assert seen["artifacts"] == []
    run.finish(points)
    report = tracking.track([study])
    assert (report.added, report.updated, report.points) == (0, 1, 27 + FINAL_POINTS)
    done = export(study)[run.key]
    assert (done["status"], done["end"], done["tags"]["status"]) == ("FINISHED", 1795565400000, "finished")
    curves = [point[:2] for point in done["points"] if point[1] > 0]  # final values have step 0
    assert sorted(curves) == sorted(point[:2] for point in points)


def test_a_killed_and_resumed_run_has_each_point_once(study: Path, export: Export) -> None:
    before = curve_points(40)
    run = FakeRun(study, NAME).begin().log(before)
    write_study(study, [run])
    tracking.track([study], live=True)
    again = curve_points(50, start=EPOCH + 3_600_000)[20:]
    run.rewind(20).log(again[:5])
    assert tracking.track([study], live=True).points == 0
    run.finish(before[:20] + again)
    assert tracking.track([study]).points == 10 + FINAL_POINTS
    (kept,) = (value for key, value in export(study).items() if key == run.key)
    keys = [point[:2] for point in kept["points"]]
    assert len(keys) == len(set(keys)) == 50 + FINAL_POINTS


@pytest.mark.parametrize("retrained", ["other values", "same values at other times", "fewer points"])
def test_a_retrained_run_replaces_the_old_one(study: Path, export: Export, retrained: str) -> None:
    run = FakeRun(study, NAME).finish(curve_points(50))
    write_study(study, [run])
    tracking.track([study])
    points = {
        "other values": curve_points(50, shift=0.25),
        "same values at other times": curve_points(50, start=EPOCH + 3_600_000),
        "fewer points": curve_points(45),
    }[retrained]
    run.finish(points, end="2026-11-25T01:10:00Z")
    assert tracking.track([study]).updated == 1
    stored = export(study)[run.key]["points"]
    assert len(stored) == len(points) + FINAL_POINTS
    assert {(point.key, point.step, point.value, point.time) for point in points} <= set(stored)


def test_a_retry_corrects_the_status(study: Path, export: Export) -> None:
    points = curve_points(50)
    run = FakeRun(study, NAME).begin().log(points[:20]).fail()
    write_study(study, [run])
    tracking.track([study])
    failed = export(study)[run.key]
    assert (failed["status"], failed["tags"]["status"], len(failed["points"])) == ("FAILED", "failed", 20)
    assert "out of memory" in failed["tags"]["failure"]
    assert "failure.json" in failed["artifacts"]
    run.begin().log(points[20:30])
    tracking.track([study], live=True)
    retried = export(study)[run.key]
    assert (retried["status"], retried["tags"]["status"], len(retried["points"])) == ("RUNNING", "running", 30)
    assert "failure" not in retried["tags"]
    run.finish(points)
    tracking.track([study])
    finished = export(study)[run.key]
    assert (finished["status"], finished["tags"]["status"], len(finished["points"])) == (
        "FINISHED",
        "finished",
        50 + FINAL_POINTS,
    )
    assert "failure" not in finished["tags"]
    assert "failure.json" not in finished["artifacts"]


def test_a_changed_configuration_is_another_run_and_the_old_one_is_marked(study: Path, export: Export) -> None:
    old = FakeRun(study, NAME).finish(curve_points(5))
    write_study(study, [old])
    tracking.track([study])
    assert export(study)[old.key]["tags"]["current"] == "true"
    new = FakeRun(study, NAME, learning_rate=0.01)
    write_study(study, [new])
    tracking.track([study])
    assert export(study)[old.key]["tags"]["current"] == "false"
    new.finish(curve_points(5))
    assert tracking.track([study]).added == 1
    runs = export(study)
    assert runs[old.key]["tags"]["current"] == "false"
    assert runs[new.key]["tags"]["current"] == "true"


def test_the_report_is_updated_in_place(study: Path, export: Export) -> None:
    write_study(study, [FakeRun(study, NAME).finish(curve_points(5))])
    write_report(study)
    tracking.track([study])
    write_report(study, "second")
    (study / "tables" / "synthetic.csv").rename(study / "tables" / "vision.csv")
    tracking.track([study])
    assert export(study)["study@demo"]["artifacts"] == [
        "figures/loss.svg",
        "report.html",
        "study.json",
        "tables/vision.csv",
    ]
    (published,) = (study.parent / "mlflow").rglob("report.html")
    assert "second" in published.read_text()


def test_artifacts_take_no_space_of_their_own(study: Path) -> None:
    run = FakeRun(study, NAME).finish(curve_points(5))
    write_study(study, [run])
    tracking.track([study])
    (published,) = (study.parent / "mlflow").rglob("attention.npz")
    assert published.samefile(run.path / "attention.npz")


def test_a_damaged_run_is_reported_and_the_others_are_ingested(study: Path, export: Export) -> None:
    bad = FakeRun(study, NAME).finish(curve_points(5))
    good = FakeRun(study, "reverse/default/kv/seed1").finish(curve_points(5))
    write_study(study, [bad, good])
    write_text(bad.path / "metrics.jsonl", "half a li\n")
    for _ in range(2):  # reported each time, until it is repaired
        (problem,) = tracking.track([study]).problems
        assert "metrics.jsonl: line 1 is not a point" in problem
    assert set(export(study)) == {good.key, "study@demo"}
    bad.finish(curve_points(5))
    report = tracking.track([study])
    assert (report.added, report.problems) == (1, [])


def full_disk(monkeypatch: pytest.MonkeyPatch, request: str, after: int) -> None:
    """Let a request of MLflow's client fail, after some that succeed."""
    from mlflow import MlflowClient

    work, calls = getattr(MlflowClient, request), itertools.count()

    def fail(*arguments: Any, **options: Any) -> None:
        if next(calls) >= after:
            raise OSError("disk full")
        work(*arguments, **options)

    monkeypatch.setattr(MlflowClient, request, fail)


def test_an_ingestion_that_was_cut_off_is_completed(
    study: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was the cell, the first thing to be written, or the run."""
    run = FakeRun(study, NAME).finish(curve_points(50))
    write_study(study, [run])
    for request, after in [("log_batch", 0), ("log_batch", 1), ("set_terminated", 0)]:
        with monkeypatch.context() as patch, pytest.raises(KvformerError, match="disk full"):
            full_disk(patch, request, after)
            tracking.track([study])
        unfinished = export(study, cells=True)
        assert "RUNNING" in {entry["status"] for entry in unfinished.values()}
        assert unfinished.get(run.key, {"status": "RUNNING"})["status"] == "RUNNING"
    tracking.track([study])
    for entry in export(study, cells=True).values():
        assert (entry["status"], len(entry["points"]) in (0, 50 + FINAL_POINTS, 52 + FINAL_POINTS)) == (
            "FINISHED",
            True,
        )


@pytest.mark.parametrize("after", [0, 1])
def test_an_update_that_was_cut_off_is_completed(
    study: Path, export: Export, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A stored run counts as incomplete while its changes are written."""
    run = FakeRun(study, NAME).finish(curve_points(50))
    write_study(study, [run])
    tracking.track([study])
    run.folder.summary_file.touch()
    with monkeypatch.context() as patch, pytest.raises(KvformerError, match="disk full"):
        full_disk(patch, "log_batch", after)
        tracking.track([study])
    cut_off = f"{NAME.rpartition('/')[0]}@cell" if after == 0 else run.key
    assert export(study, cells=True)[cut_off]["status"] == "RUNNING"
    tracking.track([study])
    completed = export(study)[run.key]
    assert (completed["status"], len(completed["points"])) == ("FINISHED", 50 + FINAL_POINTS)


@pytest.mark.parametrize(("request_name", "after"), [("log_batch", 0), ("log_batch", 1), ("set_terminated", 1)])
def test_what_another_process_wrote_before_it_was_cut_off_is_not_written_twice(
    study: Path, export: Export, monkeypatch: pytest.MonkeyPatch, request_name: str, after: int
) -> None:
    """The first process remembers what it wrote; meanwhile the second one adds a run, and is killed."""
    runs = [FakeRun(study, f"reverse/default/kv/seed{seed}") for seed in range(2)]
    write_study(study, [runs[0].finish(curve_points(20)), runs[1]])
    first = Ingestion(study.parent, None)
    first.track([study], live=True)
    runs[1].finish(curve_points(20))
    with monkeypatch.context() as patch, pytest.raises(KvformerError, match="disk full"):
        full_disk(patch, request_name, after)
        tracking.track([study])
    assert first.track([study], live=True).problems == []
    stored = export(study, cells=True)  # which sees that nothing is there twice
    assert {entry["status"] for entry in stored.values()} == {"FINISHED"}
    assert [len(stored[run.key]["points"]) for run in runs] == [20 + FINAL_POINTS] * 2
    assert first.track([study], live=True).unchanged == tracking.track([study]).unchanged == 2


def test_a_run_that_a_person_deleted_meanwhile_is_written_again(study: Path, export: Export) -> None:
    from mlflow import MlflowClient

    run = FakeRun(study, NAME).begin().log(curve_points(10))
    write_study(study, [run])
    ingestion = Ingestion(study.parent, None)
    ingestion.track([study], live=True)
    client = MlflowClient(f"sqlite:///{study.parent / 'mlflow' / 'mlflow.db'}?timeout=33")
    (deleted,) = client.search_runs(["1"], f"tags.run_key = '{run.key}'")
    client.delete_run(deleted.info.run_id)
    run.finish(curve_points(20))
    ingestion.track([study], live=True)
    assert len(export(study)[run.key]["points"]) == 20 + FINAL_POINTS


def test_many_points_and_parameters_exceed_no_limit(study: Path, export: Export) -> None:
    run = FakeRun(study, NAME)
    run.sections["data"]["vocabulary"] = "x" * 9000
    run.sections["training"] |= {f"extra{number}": number for number in range(250)}
    write_study(study, [run.finish(curve_points(5000))])
    tracking.track([study])
    stored = export(study)[run.key]
    assert len(stored["points"]) == 5000 + FINAL_POINTS
    assert stored["params"]["training.extra249"] == "249"


def test_several_studies_and_what_is_no_study(study: Path, tmp_path: Path, export: Export) -> None:
    other = study.with_name("other")
    for folder in (study, other):
        write_study(folder, [FakeRun(folder, NAME).finish(curve_points(5))])
    assert tracking.track([study, other]).added == 2
    assert len(export(study)) == len(export(other)) == 2
    with pytest.raises(KvformerError, match=r"study\.json: no such file; .* is not the results folder of a study"):
        tracking.track([study.parent])
    with pytest.raises(ConfigError, match="one results folder"):
        tracking.track([study, tmp_path / "elsewhere" / "demo"])


def test_a_study_without_runs(study: Path, export: Export) -> None:
    write_study(study, [FakeRun(study, NAME)])
    assert tracking.track([study]).missing == 1
    assert set(export(study)) == {"study@demo"}
