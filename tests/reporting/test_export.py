"""The committed copy of a study: complete, without run folders, and enough to train its runs again and compare."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kvformer.analysis import verification
from kvformer.analysis.analyse import analyse, results_of
from kvformer.analysis.collect import collect
from kvformer.analysis.frames import load_correct, load_curves, load_runs
from kvformer.analysis.provenance import by_run
from kvformer.analysis.study import read_study
from kvformer.analysis.verification import Reference
from kvformer.cli import main
from kvformer.config.loading import load_study
from kvformer.config.run import RunConfig
from kvformer.errors import KvformerError
from kvformer.files import read_json, sha256_file, write_json
from kvformer.records.study import LookRecord, OpenComparison, look_file, looks_taken
from kvformer.reporting.export import export
from kvformer.reporting.page_files import png_uri

STUDY = {
    "name": "tiny",
    "variants": ["qkv", "kv"],
    "seeds": 1,
    "tasks": {
        "copy": {
            "data": {"length": 4, "train_examples": 64, "validation_examples": 8, "test_examples": 8},
            "model": {"dim": 8, "layers": 1, "heads": 1},
            "training": {"steps": 4, "batch_size": 16, "evaluations": 2, "record_every": 1},
        }
    },
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collected study of one trained run (qkv) and one that is missing, with the places of a report's parts."""
    study = load_study(STUDY)
    results = tmp_path_factory.mktemp("trained") / "tiny"
    study.manifest().write(results / "study.json")
    run = study.runs()[0]
    assert verification.retrain(run, results / run.path, results, "cpu") == ""
    collect(results)
    for name in (
        "report.html",
        "tables/copy.csv",
        "figures/loss-copy.png",
        "figures/loss-copy.svg",
        "figures/.hidden",
        "notes.txt",
    ):
        (results / name).parent.mkdir(exist_ok=True)
        (results / name).write_text(name)
    return results


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    export(trained, tmp_path / "reference")
    return tmp_path / "reference"


@pytest.fixture
def quick(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Training again is a copy of the trained run's folder, which a test may change; returns that folder."""
    folder = trained / "runs/copy/default/qkv/seed0"

    def retrain(config: Any, out: Path, data: Path, device: str, compiler_mode: str | None) -> str:
        shutil.copytree(folder, out, dirs_exist_ok=True)
        return ""

    monkeypatch.setattr(verification, "retrain", retrain)
    return folder


def test_an_export_has_everything_but_run_folders(trained: Path, copy: Path) -> None:
    names = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert names == {
        *("study.json", "runs.csv", "curves.csv.gz", "correct.csv.gz", "report.html", "provenance.json"),
        *("tables/copy.csv", "figures/loss-copy.png", "figures/loss-copy.svg"),
    }
    assert all(sha256_file(copy / name) == sha256_file(trained / name) for name in names - {"provenance.json"})
    (record,) = read_json(copy / "provenance.json")["records"]
    assert record["runs"] == ["runs/copy/default/qkv/seed0"] and record["start"] <= record["end"]
    (shared,) = by_run(copy, read_study(copy)).values()
    (own,) = by_run(trained, read_study(trained)).values()
    assert shared.git == own.git and shared.packages == own.packages


def test_an_export_replaces_an_earlier_one(trained: Path, copy: Path) -> None:
    stale = [copy / name for name in ("figures/gone.png", "cost.csv", "profile.csv", "results.json")]
    for path in stale:
        path.write_text("of an earlier state")
    export(trained, copy)
    assert not any(path.exists() for path in stale)


def test_an_export_deletes_no_folder_of_others(trained: Path, tmp_path: Path) -> None:
    mine = tmp_path / "paper/figures/mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("drawn by hand")
    with pytest.raises(
        KvformerError, match=r"paper/figures: is not of an earlier export \(no study\.json next to it\)"
    ):
        export(trained, tmp_path / "paper")
    assert mine.read_text() == "drawn by hand" and not (tmp_path / "paper/tables").exists()


def test_an_export_of_an_analysed_study_has_its_numbers(trained: Path, tmp_path: Path) -> None:
    source = shutil.copytree(trained, tmp_path / "source")
    results = analyse(source)
    results.write()
    export(source, tmp_path / "out")
    shutil.rmtree(source)
    read = results_of(tmp_path / "out")
    assert read.facts.equals(results.facts) and read.incomplete.equals(results.incomplete)


def test_a_compact_export_has_no_heavy_formats_and_no_links_to_them(trained: Path, tmp_path: Path) -> None:
    source = shutil.copytree(trained, tmp_path / "source")
    kept = '<a href="tables/copy.csv" aria-label="tables/copy as CSV">CSV</a>'
    gone = '<a href="figures/loss-copy.svg" aria-label="figures/loss-copy as SVG">SVG</a>'
    picture = png_uri((source / "figures/loss-copy.png").read_bytes())
    (source / "report.html").write_text(f'<p>{kept}{gone}<img src="{picture}"></p>')
    export(source, tmp_path / "out", compact=True)
    assert (tmp_path / "out/report.html").read_text() == f'<p>{kept}<img src="figures/loss-copy.png"></p>'
    assert [path.name for path in sorted((tmp_path / "out/figures").iterdir())] == ["loss-copy.png"]


def test_a_compact_export_packs_the_tables_and_has_the_same_numbers(trained: Path, tmp_path: Path) -> None:
    source, out = shutil.copytree(trained, tmp_path / "source"), tmp_path / "out"
    analyse(source).write()
    export(source, out)
    whole = results_of(out)
    export(source, out, compact=True)
    names = {path.name for path in out.iterdir()}
    assert {"runs.csv.xz", "curves.csv.xz", "correct.csv.xz"} <= names
    assert not {"runs.csv", "curves.csv.gz", "correct.csv.gz", "results.json"} & names
    assert all(read(out).equals(read(source)) for read in (load_runs, load_curves, load_correct))
    assert results_of(out).facts.equals(whole.facts)
    export(source, out)
    assert (out / "runs.csv").exists() and not list(out.glob("*.xz"))


def test_an_export_onto_itself_destroys_nothing(copy: Path) -> None:
    with pytest.raises(KvformerError, match="holds the study itself"):
        export(copy, copy)
    assert (copy / "tables/copy.csv").exists()


@pytest.mark.parametrize("folder", [".", "tuning"])
def test_a_copy_is_not_collected(copy: Path, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    if folder == "tuning":
        (copy / folder).mkdir()
        for name in ("study.json", "runs.csv"):
            shutil.copy(copy / name, copy / folder)
    files = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert main(["collect", str(copy / folder)]) == 2
    assert "exported copy" in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == files


def test_an_export_refuses_what_is_not_finished_or_not_an_export(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(KvformerError, match="holds the study itself"):
        export(trained, trained)
    write_json(tmp_path / "bare/study.json", read_json(trained / "study.json"))
    with pytest.raises(KvformerError, match=r"runs\.csv: no such file; `kvformer collect .*bare` makes it"):
        export(tmp_path / "bare", tmp_path / "out")


def test_a_run_trained_again_is_identical(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(copy), "--sample", "5", "--seed", "1", "--data", str(tmp_path)]) == 0
    first, verdict, last = capsys.readouterr().out.splitlines()
    assert first == "1 of 2 runs of study 'tiny' (sample --seed 1)"
    assert verdict.startswith("copy/default/qkv/seed0: identical: ") and last == "1 of 1 runs reproduced"


def test_a_difference_on_the_same_platform_is_a_mismatch(
    copy: Path, quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    then = read_json(quick / "summary.json")["metrics"]["test/loss"]
    text = (copy / "runs.csv").read_text()
    assert str(then) in text
    (copy / "runs.csv").write_text(text.replace(str(then), str(then + 1e-12)))
    assert main(["verify", str(copy)]) == 1
    assert "MISMATCH" in (said := capsys.readouterr().out) and "on the same platform" in said


@pytest.mark.parametrize(
    ("shift", "first", "word"),
    [(0.004, 1.0, "within tolerance"), (0.05, 1.0, "MISMATCH"), (0.004, 1.1, "MISMATCH")],
)
def test_another_platform_may_differ_a_little(
    copy: Path, quick: Path, monkeypatch: pytest.MonkeyPatch, shift: float, first: float, word: str
) -> None:
    record = read_json(copy / "provenance.json")
    record["records"][0]["packages"]["torch"] = "1.0"
    write_json(copy / "provenance.json", record)
    reference = Reference(copy)
    accuracy = reference.runs["metric"] == "test/accuracy"
    reference.runs.loc[accuracy, "value"] += shift
    reference.curves.loc[reference.curves["metric"] == "train/loss", "value"] *= first
    verdict = reference.verify(reference.sample(1, 0)[0], copy, copy)
    assert verdict.word == word and "torch 1.0, here" in verdict.reason and "allowed ±0.01" in verdict.reason


@pytest.mark.parametrize(
    ("then", "now", "word"),
    [("PyTorch", "oneDNN", "within tolerance"), (None, "oneDNN", "MISMATCH"), (None, "PyTorch", "within tolerance")],
)
def test_another_library_for_linear_maps_is_another_platform(
    copy: Path, quick: Path, then: str | None, now: str, word: str
) -> None:
    """Before it was recorded, it was oneDNN."""
    record, here = read_json(copy / "provenance.json"), read_json(quick / "provenance.json")
    record["records"][0]["linear"] = then
    write_json(copy / "provenance.json", record)
    write_json(quick / "provenance.json", here | {"linear": now})
    reference = Reference(copy)
    reference.runs.loc[reference.runs["metric"] == "test/accuracy", "value"] += 0.004
    verdict = reference.verify(reference.sample(1, 0)[0], copy, copy)
    assert verdict.word == word
    assert (f"linear {then or 'oneDNN'}, here {now}" in verdict.reason) == (word != "MISMATCH")


@pytest.mark.parametrize("mode", ["reduce-overhead", None])
def test_a_run_is_compiled_as_the_original_was(copy: Path, monkeypatch: pytest.MonkeyPatch, mode: str | None) -> None:
    record = read_json(copy / "provenance.json")
    record["records"][0]["compile"] = mode
    write_json(copy / "provenance.json", record)
    commands = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, stderr="no compiler")

    monkeypatch.setattr(subprocess, "run", run)
    reference = Reference(copy)
    assert reference.verify(reference.sample(1, 0)[0], copy, copy).reason == "no compiler"
    assert commands[0][-2:] == (["--compile", mode] if mode else ["--device", "cpu"])


def test_other_data_failed_runs_and_other_versions_are_reported(
    copy: Path, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Reference(copy)
    (run,) = reference.sample(3, 0)
    reference.runs["data_sha256"] = "0" * 64
    assert "SHA-256" in reference.verify(run, copy, copy).reason
    monkeypatch.setattr(verification, "retrain", lambda *_: "kvformer: error: no memory")
    assert str(reference.verify(run, copy, copy)) == "copy/default/qkv/seed0: FAILED: kvformer: error: no memory"
    with pytest.raises(KvformerError, match="check out the commit"):
        reference.verify(run.model_copy(update={"hash": "0" * 16}), copy, copy)

    with monkeypatch.context() as patch:
        patch.setattr(RunConfig, "datasets", ("cifar10_jpeg",))
        verdict = reference.verify(run, copy / "data", copy / "none")
    assert verdict.word == "FAILED" and "cifar10_jpeg" in verdict.reason
    reference.study.sections.clear()
    with pytest.raises(KvformerError, match="does not list the settings"):
        reference.verify(run, copy, copy)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sample", "0"], "--sample: must be at least 1"),
        (["--seed", "-1"], "--seed: must be at least 0, not -1"),
        (["--task", "sort"], "no run that came"),
    ],
)
def test_bad_options_get_one_line(
    copy: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(copy), *options]) == 2
    assert words in (said := capsys.readouterr().err) and said.count("\n") == 1


def test_the_copy_of_a_study_with_looks_says_which_runs_were_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, out = tmp_path / "tiny", tmp_path / "copy"
    load_study({**STUDY, "seeds": {"looks": [2, 3, 4]}}).manifest().write(results / "study.json")
    look = LookRecord(look=1, seeds=2, time="a", open=[OpenComparison(task="copy", variant="kv")])
    look.write(look_file(results, 1))
    LookRecord(look=2, seeds=3, time="b", previous="of an earlier look 1").write(look_file(results, 2))
    collect(results)
    for name in ("report.html", "tables/copy.csv", "figures/loss-copy.png"):
        (results / name).parent.mkdir(exist_ok=True)
        (results / name).touch()
    export(results, out)
    assert read_study(out).runs == read_study(results).runs
    assert [run.seed for run in read_study(out).runs] == [0, 1, 2, 0, 1, 2]
    assert looks_taken(out) == [look]
    assert [path.name for path in (out / "looks").iterdir()] == ["look1.json"]
    for arguments in (["1"], []):
        assert main(["look", str(out), *arguments]) == 2
        assert "exported copy" in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert looks_taken(out) == [look]
