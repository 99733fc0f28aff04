"""A run per cell: mean, interval, number of seeds, verdict and mean curve, with the seeds listed under it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_runs import FINAL_POINTS, FakeRun, curve_points, write_study

from kvformer import tracking
from kvformer.analysis.collect import collect
from kvformer.analysis.comparisons import summarise
from kvformer.analysis.decisions import paired_differences
from kvformer.analysis.frames import load_runs, scores
from kvformer.analysis.study import read_study
from kvformer.files import read_json, write_json, write_text
from kvformer.records.study import study_file
from kvformer.tracking.ingest import Ingestion
from kvformer.tracking.ownership import NOTE
from kvformer.tracking.view import VIEW

Export = Callable[..., dict[str, dict[str, Any]]]
ACCURACY = {"qkv": (0.91, 0.92, 0.93), "kv": (0.951, 0.962, 0.97), "k": (0.90, 0.93, 0.91)}


def comparison(study: Path, tasks: tuple[str, ...] = ("reverse", "mnist")) -> list[FakeRun]:
    """A finished study of three variants and three seeds; each seed has curves of its own."""
    runs = []
    for task in tasks:
        for variant, values in ACCURACY.items():
            for seed, accuracy in enumerate(values):
                run = FakeRun(study, f"{task}/default/{variant}/seed{seed}")
                runs.append(run.finish(curve_points(20, shift=accuracy), accuracy=accuracy))
    write_study(study, runs)
    content = read_json(study_file(study))
    content["variants"] = [{"name": name, "label": name} for name in ACCURACY]
    content["tasks"] = [task | {"family": "synthetic"} for task in content["tasks"]]
    write_json(study_file(study), content)
    return runs


def latest(cell: dict[str, Any], name: str) -> float:
    """The value of a number that may have changed."""
    return max((time, value) for key, _, value, time in cell["points"] if key == name)[1]


def test_the_numbers_are_those_of_the_report(study: Path, export: Export) -> None:
    comparison(study)
    tracking.track([study])
    collect(study)
    expected, described = scores(load_runs(study)), read_study(study)
    verdicts = {
        (row["task"], row["variant"]): row["verdict"]
        for row in paired_differences(expected, described, by_setting=True).to_dict("records")
    }
    stored = export(study, cells=True)
    cells = {key: run for key, run in stored.items() if run["tags"]["kind"] == "cell"}
    assert len(cells) == 6
    for row in summarise(expected, described, by_setting=True).to_dict("records"):
        cell = cells[f"{row['task']}/default/{row['variant']}@cell"]
        names = {"mean": "cell/test/accuracy", "low": "cell/test/accuracy_low", "high": "cell/test/accuracy_high"}
        assert {key: latest(cell, name) for key, name in names.items()} == {key: row[key] for key in names}
        assert latest(cell, "cell/n") == row["n"] == 3
        assert cell["tags"]["verdict"] == verdicts.get((row["task"], row["variant"]), "baseline")
    best = cells["mnist/default/kv@cell"]
    assert (best["name"], best["status"], best["tags"]["complete"]) == ("mnist/default/kv", "FINISHED", "true")
    assert best["tags"]["result"] == "0.961 [0.9373, 0.9847], n = 3"
    assert best["tags"][NOTE].startswith("test/accuracy: **0.961 [0.9373, 0.9847], n = 3** (mean over seeds, 95 %")
    assert "seed" not in best["params"]
    assert best["params"]["model.dim"] == "32"


def test_the_curve_is_the_mean_over_seeds(study: Path, export: Export) -> None:
    runs = comparison(study, tasks=("reverse",))
    runs[0].finish(curve_points(25, shift=0.91), "diverged")
    tracking.track([study])
    stored = export(study, cells=True)
    seeds = [{point[:2]: point[2] for point in stored[run.key]["points"]} for run in runs[:6]]
    for cell, members in [("kv", seeds[3:6]), ("qkv", seeds[1:3])]:
        points = {p[:2]: p[2] for p in stored[f"reverse/default/{cell}@cell"]["points"] if not p[0].startswith("cell/")}
        assert points == {
            place: pytest.approx(sum(seed[place] for seed in members) / len(members)) for place in seeds[1]
        }
        assert len(points) == 20 + FINAL_POINTS
    assert stored["reverse/default/qkv@cell"]["tags"]["seeds"] == "1 diverged, 2 finished"


def test_seeds_are_listed_under_their_cell(study: Path, export: Export) -> None:
    runs = comparison(study)
    tracking.track([study])
    stored = export(study, cells=True)
    assert all(stored[run.key]["parent"] == run.name.rpartition("/")[0] for run in runs)
    assert stored["study@demo"]["parent"] is None

    runs[0].finish(curve_points(15), end="2026-11-26T00:10:00Z")  # its cell is replaced
    tracking.track([study])
    again = export(study, cells=True)
    assert all(again[run.key]["parent"] == run.name.rpartition("/")[0] for run in runs)


def test_an_incomplete_cell_shows_what_there_is_and_says_so(study: Path, export: Export) -> None:
    from mlflow import MlflowClient

    points = curve_points(20)
    runs = [FakeRun(study, f"reverse/default/kv/seed{seed}") for seed in range(4)]
    write_study(study, runs)
    ingestion, key = Ingestion(study.parent, None), "reverse/default/kv@cell"

    def look() -> dict[str, Any]:
        ingestion.track([study], live=True)
        return export(study, cells=True).get(key, {})

    assert look() == {}
    runs[0].begin().log(points[:10])
    first = look()
    assert (first["status"], first["points"]) == ("RUNNING", [("cell/n", 0, 0.0, first["points"][0][3])])
    assert first["tags"]["complete"] == "false"
    assert first["tags"]["seeds"] == "1 running, 3 missing"
    for number, accuracy in enumerate((0.9, 0.8)):
        runs[number].finish(points, accuracy=accuracy)
        seen = look()
        assert latest(seen, "cell/n") == number + 1
        assert {name.split("/")[0] for name, *_ in seen["points"]} == {"cell"}
    assert latest(seen, "cell/test/accuracy") == pytest.approx(0.85)
    assert seen["tags"]["result"].startswith("0.85 [")
    runs[2].begin().log(points[:5]).fail()
    runs[3].finish(points, accuracy=0.7)
    done = look()
    assert (done["status"], done["tags"]["complete"]) == ("FINISHED", "true")
    assert done["tags"]["seeds"] == "3 finished, 1 failed"
    assert latest(done, "cell/test/accuracy") == pytest.approx(0.8)
    client = MlflowClient(f"sqlite:///{study.parent / 'mlflow' / 'mlflow.db'}?timeout=31")
    assert client.search_runs(["1"], run_view_type=2) == []  # nothing was thrown away meanwhile

    more = FakeRun(study, "reverse/default/kv/seed4")
    write_study(study, [*runs, more])
    extended = look()
    assert (extended["status"], extended["tags"]["complete"]) == ("RUNNING", "false")
    assert {name.split("/")[0] for name, *_ in extended["points"]} == {"cell"}  # the curve of three seeds is gone
    assert export(study, cells=True)[runs[0].key]["parent"] == "reverse/default/kv"


def test_a_damaged_seed_leaves_its_cell_incomplete(study: Path, export: Export) -> None:
    runs = comparison(study, tasks=("reverse",))
    write_text(runs[3].folder.summary_file, "{")
    assert len(tracking.track([study]).problems) == 1
    cell = export(study, cells=True)["reverse/default/kv@cell"]
    assert cell["tags"]["seeds"] == "1 failed, 2 finished"
    assert latest(cell, "cell/n") == 2


def test_runs_and_cells_carry_their_data_set(study: Path, export: Export) -> None:
    runs = comparison(study, tasks=("mnist",))
    for _ in range(2):
        tracking.track([study])
        stored = export(study, cells=True)
        assert {str(stored[run.key]["data"]) for run in runs} == {"[('MNIST', 'dddddddddddd')]"}
        assert stored["mnist/default/kv@cell"]["data"] == [("MNIST", "dddddddddddd")]
        runs[0].folder.summary_file.touch()


def test_the_saved_view_shows_results_first(study: Path) -> None:
    from mlflow import MlflowClient

    comparison(study, tasks=("mnist",))
    tracking.track([study])
    tags = MlflowClient(f"sqlite:///{study.parent / 'mlflow' / 'mlflow.db'}?timeout=32").get_experiment("1").tags
    view = json.loads(tags[f"mlflow.sharedViewState.{VIEW}"])
    state = json.loads(view["state"])
    assert view["name"] == "Results"
    assert state["selectedColumns"][:2] == ["tags.`result`", "tags.`verdict`"]
    assert [section["name"] for section in state["compareRunSections"]][:3] == ["cell/test", "validation", "test"]


def test_statistics_are_imported_only_for_results(study: Path) -> None:
    run = FakeRun(study, "reverse/default/kv/seed0").begin().log(curve_points(5))
    write_study(study, [run])
    program = """
import sys; from pathlib import Path; from kvformer import tracking
print(tracking.track([Path(sys.argv[1])], live=True), 'kvformer.analysis.comparisons' in sys.modules)
"""
    output = subprocess.run([sys.executable, "-c", program, str(study)], check=True, capture_output=True, text=True)
    assert output.stdout.endswith("1 in progress False\n")
