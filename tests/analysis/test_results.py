"""results.json: every number once, at full precision, and never of another state of the study."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from fake_study import DIVERGED, write_fake_study

from kvformer.analysis.analyse import analyse, curves_of, results_of
from kvformer.analysis.collect import collect
from kvformer.analysis.provenance import find_published
from kvformer.analysis.results import FILE, Columns, Results
from kvformer.cli import main
from kvformer.errors import KvformerError
from kvformer.reporting.tables import study_tables

ROOT = Path(__file__).parents[2]
TABLES = sorted(set(Results.__annotations__) - {"folder", "study", "inputs"})


@pytest.fixture
def analysed(collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy of the collected study without its run folders, analysed by the command."""
    for name in ("study.json", "runs.csv", "curves.csv.gz", "tuning.json"):
        shutil.copy(collected / name, tmp_path)
    assert main(["analyse", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"results -> {tmp_path / FILE}"
    return tmp_path


def test_numbers_are_read_as_they_were_written(collected: Path, results: Results, tmp_path: Path) -> None:
    for name in ("study.json", "runs.csv"):
        shutil.copy(collected / name, tmp_path)
    first = Results.of(tmp_path, results.study, {name: getattr(results, name) for name in TABLES}).write().read_bytes()
    read = Results.read(tmp_path)
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(read, name), getattr(results, name), check_exact=True)
    assert read.write().read_bytes() == first


def test_the_file_is_plain_json_with_a_row_per_line(analysed: Path) -> None:
    text = (analysed / FILE).read_text(encoding="utf-8")
    tables = json.loads(text)["tables"]
    assert set(tables) == set(TABLES)
    (row,) = [row for row in tables["paired"] if (row["task"], row["variant"]) == ("reverse", "kv")]
    assert any(json.loads(line.rstrip(",")) == row for line in text.splitlines() if line.strip().startswith('{"task'))
    assert row["verdict"] == "worse" and repr(row["difference"]) in text
    assert tables["tuning"][0]["edge"] == ""


def test_the_command_and_the_reports_use_the_same_numbers(analysed: Path) -> None:
    written = results_of(analysed)
    (analysed / FILE).rename(analysed / "kept.json")
    computed = results_of(analysed)
    assert not (analysed / FILE).exists(), "only `analyse` writes"
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(computed, name), getattr(written, name), check_exact=True)
    assert [
        table.frame.equals(other.frame) for table, other in zip(*map(study_tables, (written, computed)), strict=True)
    ]
    pd.testing.assert_frame_equal(curves_of(computed), curves_of(written), check_exact=True)


def test_reports_of_another_state_are_refused(analysed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = (analysed / "runs.csv").read_text()
    (analysed / "runs.csv").write_text(runs.replace(",finished,", ",failed,"))
    assert main(["tables", str(analysed)]) == 2
    error = capsys.readouterr().err
    assert (
        f"{analysed / FILE}: was made from another runs.csv than is there now; `kvformer analyse {analysed}`" in error
    )
    assert error.count("\n") == 1
    (analysed / "runs.csv").write_text(runs)
    (analysed / "cost.csv").write_text("task,variant,macs\n")
    with pytest.raises(KvformerError, match=r"another cost\.csv"):
        results_of(analysed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[:200], "damaged"),
        (lambda content: "[]", "damaged"),
        (
            lambda content: content.replace('"format": 2', '"format": 1'),
            "has format 1, .* reads 2",
        ),
        (lambda content: content.replace('"verdict"', '"word"'), "damaged"),
        (lambda content: content.replace('"n": 6', '"n": "six"'), "damaged"),
        (lambda content: content.replace('"paired"', '"other"'), "damaged"),
    ],
)
def test_a_damaged_file_is_one_clear_line(analysed: Path, change: object, words: str) -> None:
    path = analysed / FILE
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(KvformerError, match=words) as caught:
        results_of(analysed)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert "kvformer analyse" in str(caught.value)


def test_a_missing_file_is_one_clear_line(collected: Path) -> None:
    with pytest.raises(KvformerError, match=r"results\.json: no such file; `kvformer analyse "):
        Results.read(collected)


def test_columns_have_their_types_also_where_there_is_no_row() -> None:
    columns = Columns("a b", "n", "x", "yes", open=True)
    row = {"a": "1", "b": None, "n": 1, "x": None, "yes": True, "more": 2, "word": "w"}
    for rows in ([], [row]):
        table = columns.table(rows)
        assert [table[name].dtype.kind for name in ("n", "x", "yes")] == ["i", "f", "b"]
        assert pd.api.types.is_string_dtype(table["a"])
    assert table.iloc[0].to_dict() | {"x": 0} == {
        "a": "1",
        "b": "",
        "n": 1,
        "x": 0,
        "yes": True,
        "more": 2,
        "word": "w",
    }
    with pytest.raises(KeyError):
        columns.table([{"a": "1"}])


def test_what_reports_look_up_is_there(results: Results) -> None:
    assert results.counts.set_index("status")["runs"].to_dict() == {
        "diverged": 1, "failed": 1, "finished": 105, "missing": 1
    }  # fmt: skip
    judged = results.tasks.set_index("task")
    assert judged.loc["characters", "metric"] == "validation/loss" and judged.loc["mnist", "data"] == "MNIST"
    assert list(results.tuning[results.tuning["chosen"]]["edge"]) == ["", "learning rate at its highest", ""]
    assert list(results.overall["variant"]) == ["kv", "kv_pos"] and set(results.overall["n_tasks_counted"]) == {5}
    assert set(results.overall_seeds["variant"]) == {"kv", "kv_pos"}
    seeds = results.seeds[(results.seeds["task"] == "copy") & (results.seeds["variant"] == "kv_pos")]
    assert DIVERGED[3] not in set(seeds["seed"]) and len(seeds) == 5
    assert (results.cost["n"] > 0).all() and not len(results.published[results.published["task"] == "cifar10"])


def test_a_metric_has_its_split_also_where_no_run_has_finished(tmp_path: Path) -> None:
    folder = write_fake_study(tmp_path, seeds=1, points=2)
    shutil.rmtree(folder / "runs/mnist")
    collect(folder)
    found = analyse(folder)
    assert found.tasks.set_index("task")["metric"]["mnist"] == "test/accuracy"
    assert set(found.summary[found.summary["task"] == "mnist"]["metric"]) == {"test/accuracy"}


def test_published_numbers_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_published() == ROOT / "config" / "published.csv"
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config" / "published.csv", tmp_path / "config")
    assert find_published() == tmp_path / "config" / "published.csv"


def test_a_given_table_of_published_numbers_must_exist(collected: Path, tmp_path: Path) -> None:
    assert len(analyse(collected).published) == 0
    with pytest.raises(KvformerError, match=r"mine\.csv: no such file"):
        analyse(collected, tmp_path / "mine.csv")
