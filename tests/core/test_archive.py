"""A finished run is known by its content: it is taken over instead of trained, if nothing of it has changed."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import results, tiny_run

from kvformer.cli import main
from kvformer.config.loading import load_study
from kvformer.config.run import RunConfig
from kvformer.files import read_json, write_json
from kvformer.records.provenance import Provenance
from kvformer.records.run import RunFolder
from kvformer.spec.variants import VARIANTS
from kvformer.training import identity as identity_module
from kvformer.training.archive import count_archived, planned_identity, prepared_digests
from kvformer.training.identity import identity_of

TAKEN_OVER = "taken over from first/run, where this run was trained"


class Results:
    """A folder of results with an archive, in which runs are trained by `kvformer train`."""

    def __init__(self, folder: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.data, self.capsys = folder, data, capsys

    def train(self, run: RunConfig, name: str, *options: str) -> str:
        """Train a run, or take it over, into the folder `name`; returns what was printed."""
        self.capsys.readouterr()
        arguments = ["--run", run.to_json(), "--out", str(self.folder / name), "--data", str(self.data)]
        code = main(["train", *arguments, "--device", "cpu", "--archive", str(self.folder / "archive"), *options])
        printed = self.capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    @property
    def entry(self) -> Path:
        """The only run in the archive."""
        (entry,) = (self.folder / "archive").iterdir()
        return entry


@pytest.fixture
def shared(tmp_path: Path, prepared: Path, capsys: pytest.CaptureFixture[str]) -> Results:
    return Results(tmp_path / "results", prepared, capsys)


def plain(folder: Path) -> dict[str, Any]:
    """The bytes of a run's files but for its provenance."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "provenance.json"}


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "copies"])
def test_a_second_study_takes_over_a_finished_run(
    links: bool, shared: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuse(source: Path, target: Path) -> None:
            raise PermissionError("no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    run = tiny_run("mnist")
    assert "taken over" not in shared.train(run, "first/run", "--keep-weights")
    first = RunFolder(shared.folder / "first/run")
    assert first.metrics_file.samefile(shared.entry / "metrics.jsonl") == links

    assert TAKEN_OVER in shared.train(run, "second/another/run", "--keep-weights")
    second = RunFolder(shared.folder / "second/another/run")
    assert plain(second.path) == plain(first.path)
    assert not (second.path / "progress").exists()
    there, here = first.provenance(), second.provenance()
    assert there is not None and here is not None and there.taken_over_from is None
    assert here == there.model_copy(update={"taken_over_from": "first/run"})
    assert not second.metrics_file.samefile(first.metrics_file), "Snakemake touches outputs"


def test_a_run_whose_folder_was_deleted_comes_back(shared: Results) -> None:
    run = tiny_run("copy")
    shared.train(run, "first/run")
    before = {path.name: path.read_bytes() for path in (shared.folder / "first/run").iterdir()}
    for path in (shared.folder / "first/run").iterdir():
        path.unlink()
    assert TAKEN_OVER in shared.train(run, "first/run")
    assert {path.name: path.read_bytes() for path in (shared.folder / "first/run").iterdir()} == before


def test_the_results_may_be_moved(shared: Results) -> None:
    run = tiny_run("copy")
    shared.train(run, "first/run")
    shared.folder = shared.folder.rename(shared.folder.with_name("moved"))
    assert TAKEN_OVER in shared.train(run, "second/run")


def test_names_of_settings_are_those_of_the_study_that_takes_over(shared: Results) -> None:
    run = tiny_run("copy")
    shared.train(run, "first/run")
    renamed = run.model_copy(update={"setting": "small", "overrides": {"model.dim": 16}})
    assert TAKEN_OVER in shared.train(renamed, "second/run")
    assert read_json(shared.folder / "second/run/summary.json")["setting"] == "small"
    configuration = read_json(shared.folder / "second/run/config.json")
    assert configuration["setting"] == "small" and configuration["overrides"] == {"model.dim": 16}


def test_a_diverged_run_is_taken_over_as_it_is(shared: Results) -> None:
    run = tiny_run("copy", training={"learning_rate": 1e38, "steps": 40, "clip_norm": None})
    assert "diverged:" in shared.train(run, "first/run")
    assert TAKEN_OVER in shared.train(run, "second/run")
    assert plain(shared.folder / "second/run") == plain(shared.folder / "first/run")


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "summary.json", "provenance.json", "attention.npz", "correct.json"]
)
def test_a_run_with_a_changed_byte_is_refused_and_trained_again(name: str, shared: Results) -> None:
    run = tiny_run("copy")
    shared.train(run, "first/run")
    whole = results(shared.folder / "first/run")
    content = bytearray((shared.entry / name).read_bytes())
    content[-3] ^= 1
    (shared.entry / name).write_bytes(content)
    printed = shared.train(run, "second/run")
    assert f"{shared.entry / name}: was changed since it was archived; training again\n" in printed
    assert "taken over" not in printed
    assert results(shared.folder / "second/run") == whole
    assert "taken over from second/run" in shared.train(run, "third/run"), "the archive has the new one"


@pytest.mark.parametrize("damage", ["a file is missing", "no record", "another run"])
def test_a_damaged_entry_is_told_in_one_line(damage: str, shared: Results) -> None:
    run = tiny_run("copy")
    shared.train(run, "first/run")
    entry = shared.entry
    if damage == "another run":
        shared.train(other := tiny_run("copy", seed=1), "other/run")
        data = prepared_digests(shared.data, other.datasets)
        identity = planned_identity(other, data, "cpu", None)
        assert identity is not None
        entry.rename(entry.with_name("aside"))
        entry.with_name(identity.digest).rename(entry)
        entry.with_name("aside").rename(entry.with_name(identity.digest))
    else:
        (entry / ("metrics.jsonl" if damage == "a file is missing" else "archived.json")).unlink()
    lines = [line for line in shared.train(run, "second/run").splitlines() if "training again" in line]
    assert len(lines) == 1 and str(entry) in lines[0]
    assert results(shared.folder / "second/run") == results(shared.folder / "first/run")


def test_no_reuse_trains_again_and_replaces_the_archived_run(shared: Results) -> None:
    run = tiny_run("copy")
    shared.train(run, "first/run")
    assert "taken over" not in shared.train(run, "second/run", "--no-reuse")
    assert "taken over from second/run" in shared.train(run, "third/run")


def test_a_configuration_without_reuse_trains_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["training.steps=2", "training.epochs=null", "model.dim=8", "data.train_examples=32"]
    options = [part for change in changes for part in ("--set", change)]
    arguments = ["train", "reverse", "kv", "--archive", str(tmp_path / "archive"), "--data", str(tmp_path), *options]
    for name, reuse, taken in (("first", "true", False), ("second", "false", False), ("third", "true", True)):
        assert main([*arguments, "--out", str(tmp_path / name), "--set", f"execution.reuse={reuse}"]) == 0
        assert ("taken over" in capsys.readouterr().out) == taken


def test_weights_that_were_not_kept_are_trained_again(shared: Results) -> None:
    run = tiny_run("copy")
    shared.train(run, "first/run")
    printed = shared.train(run, "second/run", "--keep-weights")
    assert f"{shared.entry}: the weights of this run were not kept; training again" in printed
    assert "taken over" in shared.train(run, "third/run", "--keep-weights")
    assert (shared.folder / "third/run/model.safetensors").samefile(shared.folder / "second/run/model.safetensors")
    shared.train(run, "fourth/run")
    assert not (shared.folder / "fourth/run/model.safetensors").exists()


def test_weights_of_an_earlier_training_are_not_archived_as_those_of_the_next(shared: Results) -> None:
    """A folder is trained in again, with other values and without keeping weights."""
    run = tiny_run("copy", training={"learning_rate": 0.5})
    shared.train(tiny_run("copy"), "first/run", "--keep-weights")
    shared.train(run, "first/run")
    assert not (shared.folder / "first/run/model.safetensors").exists()
    assert "the weights of this run were not kept" in shared.train(run, "second/run", "--keep-weights")


def test_an_archive_that_cannot_be_written_costs_a_line_and_not_the_run(shared: Results) -> None:
    shared.folder.mkdir()
    (shared.folder / "archive").write_text("a file")
    assert "the finished run could not be archived" in shared.train(tiny_run("copy"), "first/run")
    assert (shared.folder / "first/run/summary.json").exists()


@pytest.mark.parametrize("task", ["copy", "mnist", "tiny_imagenet", "characters", "anomaly", "translation_en_de"])
def test_the_planned_identity_is_the_recorded_one(task: str, shared: Results) -> None:
    run = tiny_run(task)
    assert planned_identity(run, {}, "cpu", None) is None or not run.datasets, "the data are not prepared yet"
    planned = planned_identity(run, prepared_digests(shared.data, run.datasets), "cpu", None)
    shared.train(run, "first/run")
    assert planned is not None
    assert Provenance.load(shared.folder / "first/run/provenance.json").identity == planned
    assert planned.data == [] if not run.datasets else len(planned.data) == 1


def test_whatever_changes_a_result_changes_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    run, data = tiny_run("mnist", "kv"), ["0" * 64]
    digests = [
        identity_of(run, data, "cpu", None).digest,
        identity_of(run, ["1" * 64], "cpu", None).digest,
        identity_of(run, data, "cuda", None).digest,
        identity_of(run, data, "cpu", "default").digest,
        identity_of(tiny_run("mnist", "kv", seed=1), data, "cpu", None).digest,
        identity_of(tiny_run("mnist", "qkv"), data, "cpu", None).digest,
        identity_of(tiny_run("mnist", "kv", training={"learning_rate": 0.5}), data, "cpu", None).digest,
    ]
    with monkeypatch.context() as patch:
        patch.setattr(identity_module, "code_digest", lambda module: "another")
        digests.append(identity_of(run, data, "cpu", None).digest)
    spec = replace(VARIANTS["kv"].attention, mask_self=True)
    monkeypatch.setitem(VARIANTS, "kv", replace(VARIANTS["kv"], attention=spec))
    digests.append(identity_of(run, data, "cpu", None).digest)
    assert len(set(digests)) == len(digests) == 9


def test_a_plan_says_how_many_runs_are_taken_over(
    shared: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tiny_run("copy")
    shared.train(run, "first/run")
    section = run.model_dump(mode="json", include={"data", "model", "training", "protocol"})
    content = {"name": "second", "variants": ["kv_pos", "qkv"], "seeds": 2, "tasks": {"copy": section}}

    def planned(**execution: Any) -> int:
        study = load_study({**content, "execution": {"device": "cpu", **execution}})
        return count_archived(study, {run.path: run for run in study.runs()}, gpu=False)

    assert planned() == 1
    assert planned(reuse=False) == planned(device="cuda") == planned(compile="default") == 0
    shared.train(run, "second/runs/copy/default/kv_pos/seed0")
    assert planned() == 0, "it is in its folder by now"
    write_json(tmp_path / "study.json", {**content, "name": "third"})
    assert main(["plan", "study.json"]) == 0
    assert "1 of 4 runs are taken over from results/archive" in capsys.readouterr().out


def test_the_archive_may_be_deleted(shared: Results) -> None:
    run = tiny_run("copy")
    shared.train(run, "first/run")
    shutil.rmtree(shared.folder / "archive")
    assert "taken over" not in shared.train(run, "second/run")
    assert "taken over from second/run" in shared.train(run, "third/run")
