"""MLflow is a place where people work: kvformer changes only what it wrote itself, and tells what still belongs to the
study."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_runs import EPOCH, FakeRun, curve_points, write_study

from kvformer import tracking
from kvformer.errors import KvformerError
from kvformer.files import read_json, write_json
from kvformer.records.study import study_file
from kvformer.tracking.ingest import Ingestion
from kvformer.tracking.ownership import NOTE, changed_tags, first_tags, foreign_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Export = Callable[..., dict[str, dict[str, Any]]]
NAME = "reverse/default/kv/seed0"
CELL = "reverse/default/kv@cell"


class Person:
    """Somebody who works in MLflow's pages."""

    def __init__(self, client: "MlflowClient") -> None:
        self.client = client

    def run(self, key: str) -> "Run":
        (run,) = self.client.search_runs(["1"], f"tags.run_key = '{key}'")
        return run

    def tag(self, key: str, **tags: str) -> None:
        for name, value in tags.items():
            self.client.set_tag(self.run(key).info.run_id, name.replace("__", "."), value)

    def note(self, key: str, text: str) -> None:
        self.client.set_tag(self.run(key).info.run_id, NOTE, text)

    def rename(self, key: str, name: str) -> None:
        self.client.update_run(self.run(key).info.run_id, name=name)


@pytest.fixture
def person(study: Path) -> Iterator[Person]:
    from mlflow import MlflowClient

    yield Person(MlflowClient(f"sqlite:///{study.parent / 'mlflow' / 'mlflow.db'}?timeout=30"))


@pytest.mark.parametrize("change", ["nothing", "touched", "retrained", "failed, then retried", "cell completed"])
def test_what_a_person_wrote_on_a_run_survives(study: Path, export: Export, person: Person, change: str) -> None:
    run, other = FakeRun(study, NAME), FakeRun(study, NAME.replace("seed0", "seed1"))
    if change == "failed, then retried":
        run.begin().log(curve_points(10)).fail()
    else:
        run.finish(curve_points(10))
    write_study(study, [run, other])
    tracking.track([study])
    for key in (run.key, CELL):
        person.note(key, "compare with **my** notebook")
        person.tag(key, reviewed="yes", protocol="my own word", device="my laptop")
        person.rename(key, f"favourite {key}")
    person.client.delete_tag(person.run(run.key).info.run_id, "task")

    if change == "touched":
        run.folder.summary_file.touch()
    elif change == "cell completed":
        other.finish(curve_points(10))
    elif change != "nothing":
        run.finish(curve_points(10, start=EPOCH + 3_600_000), end="2026-11-25T01:10:00Z")
    for live in (False, True, False):
        tracking.track([study], live=live)

    stored = export(study, cells=True)
    for key in (run.key, CELL):
        seen = stored[key]
        assert seen["name"] == f"favourite {key}"
        wrote = {NOTE: "compare with **my** notebook", "reviewed": "yes", "protocol": "my own word"}
        assert (wrote | {"device": "my laptop"}).items() <= seen["tags"].items()
    assert stored[run.key]["status"] == "FINISHED"
    assert stored[run.key]["tags"]["status"] == "finished"
    assert ("task" in stored[run.key]["tags"]) == ("retr" in change)
    assert stored[CELL]["tags"]["seeds"] == ("2 finished" if change == "cell completed" else "1 finished, 1 missing")
    assert stored[run.key]["parent"] == f"favourite {CELL}"


def test_what_a_person_wrote_survives_a_replacement_that_is_cut_off(
    study: Path, export: Export, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    run = FakeRun(study, NAME).finish(curve_points(10))
    write_study(study, [run])
    tracking.track([study])
    for key in (CELL, run.key):
        person.note(key, "mine")
    run.finish(curve_points(10, start=EPOCH + 3_600_000), end="2026-11-25T01:10:00Z")
    for request in ("create_run", "delete_run", "log_batch"):
        with monkeypatch.context() as patch, pytest.raises(KvformerError, match="disk full"):
            patch.setattr(MlflowClient, request, lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
            tracking.track([study])
    tracking.track([study])
    stored = export(study, cells=True)  # which also sees that nothing is there twice
    assert [stored[key]["tags"][NOTE] for key in (CELL, run.key)] == ["mine", "mine"]


def test_metrics_that_a_person_logged_do_not_count_as_another_training(
    study: Path, export: Export, person: Person
) -> None:
    run = FakeRun(study, NAME).finish(curve_points(10))
    write_study(study, [run])
    tracking.track([study])
    identity = person.run(run.key).info.run_id
    person.client.log_metric(identity, "human/score", 4.0)
    person.client.log_param(identity, "rater", "me")
    run.folder.summary_file.touch()
    assert tracking.track([study]).updated == 1
    assert person.run(run.key).info.run_id == identity
    assert export(study)[run.key]["params"]["rater"] == "me"


def test_the_description_and_tags_of_an_experiment_survive(study: Path, person: Person) -> None:
    run = FakeRun(study, NAME).finish(curve_points(10))
    write_study(study, [run])
    tracking.track([study])
    described = read_json(study_file(study)) | {"description": "Another sentence."}
    write_json(study_file(study), described)
    tracking.track([study])
    assert person.client.get_experiment("1").tags[NOTE].startswith("Another sentence.")

    person.client.set_experiment_tag("1", NOTE, "What **we** found.")
    person.client.set_experiment_tag("1", "owner", "me")
    person.client.set_experiment_tag("1", "mlflow.experimentKind", "my_kind")
    write_json(study_file(study), described | {"description": "A third sentence."})
    run.finish(curve_points(20))
    tracking.track([study])
    tags = person.client.get_experiment("1").tags
    assert (tags[NOTE], tags["owner"], tags["mlflow.experimentKind"]) == ("What **we** found.", "me", "my_kind")


def test_an_experiment_that_a_person_renamed_is_found(study: Path, person: Person) -> None:
    run = FakeRun(study, NAME).finish(curve_points(10))
    write_study(study, [run])
    tracking.track([study])
    person.client.rename_experiment("1", "for the paper")
    run.finish(curve_points(20))
    assert tracking.track([study]).updated == 1
    names = {experiment.name for experiment in person.client.search_experiments()}
    assert names == {"Default", "for the paper"}
    person.client.delete_experiment("1")
    with pytest.raises(KvformerError, match="'for the paper' was deleted there; restore it"):
        tracking.track([study])


def test_a_store_of_an_older_version_is_brought_up_to_date(study: Path, export: Export, person: Person) -> None:
    """That version did not remember what it wrote; its own tags are still kvformer's, a note is a person's."""
    run = FakeRun(study, NAME).begin().log(curve_points(10)).fail()
    dropped = FakeRun(study, NAME.replace("seed0", "seed1")).finish(curve_points(10))
    write_study(study, [run, dropped])
    tracking.track([study])
    for key in (run.key, dropped.key):
        identity = person.run(key).info.run_id
        for tag in ("written", "mlflow.parentRunId"):
            person.client.delete_tag(identity, tag)
        person.note(key, "mine")
        person.tag(key, mine="too")
    for tag in ("written", "kvformer.study"):
        person.client.delete_experiment_tag("1", tag)
    person.client.set_experiment_tag("1", "records", "reverse:0123456789abcdef")
    person.client.set_experiment_tag("1", NOTE, "ours")

    run.finish(curve_points(10))
    write_study(study, [run])
    tracking.track([study])
    write_study(study, [run, dropped])
    tracking.track([study])
    stored = export(study)
    assert [stored[key]["tags"]["status"] for key in (run.key, dropped.key)] == ["finished", "finished"]
    assert "failure" not in stored[run.key]["tags"]
    for key in (run.key, dropped.key):
        assert {NOTE: "mine", "mine": "too", "current": "true"}.items() <= stored[key]["tags"].items()
        assert stored[key]["parent"] == "reverse/default/kv"
    assert person.client.get_experiment("1").tags[NOTE] == "ours"


@pytest.mark.parametrize("process", ["one", "several"])
def test_current_says_what_the_study_lists_now(study: Path, export: Export, process: str) -> None:
    """Fewer seeds, another variant, another configuration, a task less, and back again."""
    names = ["reverse/default/kv/seed0", "reverse/default/kv/seed1", "reverse/default/k/seed0", "sort/default/kv/seed0"]
    runs = [FakeRun(study, name).finish(curve_points(10)) for name in names]
    changed = FakeRun(study, names[0], learning_rate=0.01)
    ingestion = Ingestion(study.parent, None)

    def current(*listed: FakeRun) -> set[str]:
        write_study(study, listed)
        again = ingestion if process == "one" else Ingestion(study.parent, None)
        again.track([study], live=True)
        stored = export(study, cells=True)
        return {key for key, run in stored.items() if run["tags"]["current"] == "true"} - {"study@demo"}

    cells = ["reverse/default/kv@cell", "reverse/default/k@cell", "sort/default/kv@cell"]
    keys = [run.key for run in runs]
    assert current(*runs) == {*keys, *cells}
    assert current(runs[0], *runs[2:]) == {keys[0], *keys[2:], *cells}
    assert current(runs[0]) == {keys[0], cells[0]}
    assert current(changed) == {cells[0]}
    assert current(*runs[1:]) == {*keys[1:], *cells}
    assert current(*runs) == {*keys, *cells}


def test_tags_are_ours_as_long_as_we_wrote_them() -> None:
    stored = first_tags({"status": "running", "task": "sort", "note": "made"}, {"mine": "1"})
    assert changed_tags(stored, {"status": "running", "task": "sort", "note": "made"}) == {}
    changes = changed_tags(stored, {"status": "finished", "note": None})
    assert (changes.pop("written") is not None, changes) == (True, {"status": "finished", "note": None})

    edited = stored | {"status": "bad seed"}
    del edited["task"]
    assert set(changed_tags(edited, {"status": "finished", "task": "sort", "mine": "2", "note": "made"})) <= {"written"}
    assert foreign_tags(edited, {}) == {"mine": "1", "status": "bad seed"}
    assert changed_tags(stored | {"written": "somebody's"}, {"status": "finished"}).keys() <= {"written"}
