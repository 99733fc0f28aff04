"""The RO-Crate ties tables and figures to runs, configuration and commit."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_study import COMMIT, write_fake_study
from rocrate.rocrate import ROCrate

from kvformer.analysis.collect import collect
from kvformer.files import sha256_file
from kvformer.reporting.crate import METADATA, write_crate


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crate")
    results = write_fake_study(folder, seeds=3, points=4)
    collect(results)
    (results / "tables").mkdir()
    (results / "tables/synthetic.csv").write_text("a\n1\n")
    (results / "figures").mkdir()
    (results / "figures/loss.svg").write_text("<svg/>")
    (results / "tuning").mkdir()
    for name in ("tuning/study.json", "tuning/runs.csv", "cost.csv", "results.json"):
        (results / name).write_text(name)
    (folder / "Snakefile").write_text("rule all:\n")
    write_crate(results, folder / "Snakefile")
    return results


def entities(results: Path) -> dict[str, dict[str, Any]]:
    return {entity["@id"]: entity for entity in json.loads((results / METADATA).read_text())["@graph"]}


def ids(value: Any) -> list[str]:
    return [item["@id"] for item in (value if isinstance(value, list) else [value])]


def test_the_library_reads_it_back(results: Path) -> None:
    crate = ROCrate(results)
    assert crate.name == "kvformer study fake"
    assert crate.mainEntity.id == "Snakefile"
    assert crate.datePublished.isoformat().startswith("2026-11-01T10:02:30")
    profiles = ids(entities(results)["./"]["conformsTo"])
    assert "https://w3id.org/ro/wfrun/workflow/0.5" in profiles


def test_everything_named_is_there(results: Path) -> None:
    found = entities(results)
    for path in ids(found["./"]["hasPart"]):
        assert (results / path).exists(), path
    for entity in found.values():
        if "sha256" in entity and entity["@type"] == "File":
            assert entity["sha256"] == sha256_file(results / entity["@id"])
    named = json.dumps(list(found.values()))
    assert all(f'"{{"@id": "{key}"}}"' not in named or key in found for key in found)


def test_a_figure_leads_to_runs_configuration_and_commit(results: Path) -> None:
    found = entities(results)
    report, collection = found["#report"], found["#collect"]
    assert {"figures/loss.svg", "tables/synthetic.csv"} <= set(ids(report["result"]))
    assert ids(report["object"]) == ["study.json", "results.json"]
    assert set(ids(found["#analyse"]["object"])) == {
        *("study.json", "runs.csv", "curves.csv.gz", "correct.csv.gz", "tuning.json", "cost.csv")
    }
    assert ids(collection["result"]) == ["runs.csv", "curves.csv.gz", "correct.csv.gz"]
    run = "runs/reverse/default/kv/seed0/"
    assert run in ids(collection["object"])
    training = found["#training/reverse/default/kv/seed0"]
    assert ids(training["result"]) == [run] and "study.json" in ids(training["object"])
    assert found[ids(training["instrument"])[0]]["identifier"] == COMMIT
    plan = json.loads((results / "study.json").read_text())["runs"]
    assert found[run]["identifier"] in {entry["hash"] for entry in plan}
    data = [found[name] for name in ids(found["#training/mnist/default/qkv/seed0"]["object"]) if name != "study.json"]
    assert [item["name"] for item in data] == ["MNIST"] and data[0]["sha256"]


def test_chosen_values_come_from_the_trials_before_the_runs(results: Path) -> None:
    found = entities(results)
    choice = found["#choose"]
    assert ids(choice["result"]) == ["tuning.json"] and ids(choice["object"]) == [
        "tuning/study.json",
        "tuning/runs.csv",
    ]
    tuned, plain = (ids(found[f"#training/{task}/default/kv/seed0"]["object"]) for task in ("sort", "reverse"))
    assert "tuning.json" in tuned and "tuning.json" not in plain
    assert "tuning.json" in ids(found["#workflow-run"]["result"])


def test_failed_runs_say_why_and_missing_ones_are_no_part(results: Path) -> None:
    failed = entities(results)["#training/mnist/default/kv/seed2"]
    assert failed["actionStatus"].endswith("FailedActionStatus")
    assert failed["error"] == "OSError: no space left on device"


def test_the_same_files_give_the_same_bytes(results: Path) -> None:
    before = (results / METADATA).read_bytes()
    write_crate(results, results.parent / "Snakefile")
    assert (results / METADATA).read_bytes() == before


def test_without_a_workflow_it_describes_the_runs(results: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    (copy / "Snakefile").unlink()
    write_crate(copy, tmp_path / "nowhere")
    found = entities(copy)
    assert ids(found["./"]["conformsTo"]) == ["https://w3id.org/ro/wfrun/process/0.5"]
    assert "#workflow-run" not in found and "#report" in found


def test_reporting_never_imports_torch_or_training() -> None:
    import subprocess

    code = (
        "import importlib, pkgutil, sys, kvformer.reporting as package\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'torch' or name.startswith('kvformer.training')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
