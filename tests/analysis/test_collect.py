"""collect: every expected run is in runs.csv, whatever state its folder is in."""

import gzip
import json
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
from fake_study import DIVERGED, FAILED, MISSING, write_fake_study

from kvformer.analysis import collect as module
from kvformer.analysis.collect import CURVE_COLUMNS, RUN_COLUMNS, collect
from kvformer.errors import KvformerError
from kvformer.files import read_json, write_json

KEYS = ["task", "setting", "variant", "seed"]


def statuses(results: Path) -> dict[tuple[str, str, str, int], str]:
    runs = pd.read_csv(results / "runs.csv")
    return {tuple(key): group.status.iloc[0] for key, group in runs.groupby(KEYS)}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_fake_study(tmp_path, seeds=2, points=4)


def test_every_expected_run_has_a_status(collected: Path) -> None:
    found = statuses(collected)
    study = read_json(collected / "study.json")
    assert set(found) == {tuple(run[key] for key in KEYS) for run in study["runs"]}
    special = {DIVERGED: "diverged", FAILED: "failed", MISSING: "missing"}
    assert found == {key: special.get(key, "finished") for key in found}


def test_values_and_facts_come_from_the_summary(collected: Path) -> None:
    runs = pd.read_csv(collected / "runs.csv")
    assert list(runs.columns) == RUN_COLUMNS
    primary = runs[runs.primary & (runs.status == "finished")]
    for row in primary.sample(20, random_state=1).itertuples():
        summary = read_json(collected / row.path / "summary.json")
        assert row.value == summary["metrics"][row.metric]
        assert row.parameters == summary["parameters"]["total"]
        assert row.attention_parameters == summary["parameters"]["attention"]
        assert (row.seconds, row.stepping_seconds) == (summary["seconds"]["total"], summary["seconds"]["stepping"])
        assert (row.data_label, row.data_source) == (summary["data"][0]["label"], summary["data"][0]["source"])
        assert row.git_commit == read_json(collected / row.path / "provenance.json")["git"]["commit"]
    assert set(runs[runs.metric == "validation/loss"].goal) == {"min"}
    assert set(runs[runs.metric == "validation/accuracy"].goal) == {"max"}
    assert primary.groupby(KEYS).size().eq(1).all()


def test_failed_and_missing_runs_have_one_empty_row(collected: Path) -> None:
    runs = pd.read_csv(collected / "runs.csv")
    for identity in (FAILED, MISSING):
        rows = runs[(runs[KEYS] == list(identity)).all(axis=1)]
        assert len(rows) == 1
        assert rows.primary.all() and rows.value.isna().all() and rows.metric.item() == "test/accuracy"


def test_a_lost_run_has_the_protocol_of_its_setting(small: Path) -> None:
    study = read_json(small / "study.json")
    for entry in study["settings"]:
        entry["protocol"] = "corrected" if entry["task"] == "reverse" else entry["protocol"]
    write_json(small / "study.json", study)
    for task in ("reverse", "mnist"):
        shutil.rmtree(small / f"runs/{task}/default/kv/seed1")
    collect(small)
    runs = pd.read_csv(small / "runs.csv")
    missing = runs[runs.status == "missing"].set_index("task")["protocol"]
    assert missing.to_dict() == {"reverse": "corrected", "mnist": "published"}


def test_diverged_run_keeps_its_metrics_and_shows_its_empty_primary(collected: Path) -> None:
    runs = pd.read_csv(collected / "runs.csv", keep_default_na=False, dtype=str)
    rows = runs[(runs[KEYS] == [str(part) for part in DIVERGED]).all(axis=1)].set_index("metric")
    assert rows.value["test/accuracy"] == ""
    assert rows.value["train/loss"] == "nan"
    assert float(rows.value["validation/loss"]) > 0


def test_curves_hold_every_point(collected: Path) -> None:
    curves = pd.read_csv(collected / "curves.csv.gz")
    assert list(curves.columns) == CURVE_COLUMNS
    expected = sum(len(path.read_text().splitlines()) for path in collected.glob("runs/*/*/*/*/metrics.jsonl"))
    assert len(curves) == expected
    assert not curves.duplicated([*KEYS, "metric", "step"]).any()


def test_same_folders_same_bytes(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(small)
    first = [(small / name).read_bytes() for name in ("runs.csv", "curves.csv.gz")]
    monkeypatch.setattr(time, "time", lambda: 1e9)
    collect(small)
    assert [(small / name).read_bytes() for name in ("runs.csv", "curves.csv.gz")] == first


@pytest.mark.parametrize("damage", ["torn", "array", "no metrics"])
def test_damaged_summary_is_a_failed_run(small: Path, damage: str) -> None:
    path = small / "runs/reverse/default/kv/seed1/summary.json"
    path.write_text({"torn": path.read_text()[:100], "array": "[]", "no metrics": '{"status": "finished"}'}[damage])
    collect(small)
    assert statuses(small)["reverse", "default", "kv", 1] == "failed"


@pytest.mark.parametrize("finished", [True, False])
def test_run_of_another_configuration_is_stale_and_its_numbers_stay_out(small: Path, finished: bool) -> None:
    folder = small / "runs/reverse/default/kv/seed1"
    if finished:
        write_json(folder / "summary.json", read_json(folder / "summary.json") | {"config_hash": "other"})
    else:
        (folder / "summary.json").unlink()
        write_json(folder / "config.json", read_json(folder / "config.json") | {"hash": "other"})
    collect(small)
    assert statuses(small)["reverse", "default", "kv", 1] == "stale"
    runs = pd.read_csv(small / "runs.csv")
    rows = runs[(runs[KEYS] == ["reverse", "default", "kv", 1]).all(axis=1)]
    assert len(rows) == 1 and rows.value.isna().all()


def test_unfinished_and_vanished_runs_are_missing(small: Path) -> None:
    folder = small / "runs/reverse/default/kv"
    for name in ("summary.json", "provenance.json", "metrics.jsonl"):
        (folder / "seed0" / name).unlink()
    (folder / "seed0/progress").mkdir()
    shutil.rmtree(folder / "seed1")
    collect(small)
    found = statuses(small)
    assert found["reverse", "default", "kv", 0] == found["reverse", "default", "kv", 1] == "missing"


def test_damaged_curve_keeps_the_points_before_the_damage(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = small / "runs/reverse/default/kv/seed0/metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "{damaged", *lines[3:]]) + "\n")
    collect(small)
    curves = pd.read_csv(small / "curves.csv.gz")
    assert (curves[KEYS] == ["reverse", "default", "kv", 0]).all(axis=1).sum() == 3
    assert "metrics.jsonl" in caplog.text


def test_long_curves_are_thinned_at_the_same_steps_for_every_run(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POINTS_PER_CURVE", 50)
    for variant, count in (("qkv", 1001), ("kv", 1001), ("kv_pos", 50)):
        lines = [
            {"step": step, "epoch": 0.0, "key": "train/loss", "value": 1.0, "elapsed": 0.1} for step in range(count)
        ]
        path = small / f"runs/reverse/default/{variant}/seed0/metrics.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    collect(small)
    curves = pd.read_csv(small / "curves.csv.gz").query("task == 'reverse' and seed == 0")
    steps = {variant: group.step.tolist() for variant, group in curves.groupby("variant")}
    assert steps["qkv"] == steps["kv"] and len(set(steps["kv"])) == 50
    assert (steps["kv"][0], steps["kv"][-1]) == (0, 1000)
    assert steps["kv_pos"] == list(range(50))


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such file"), ("{", "JSON"), ('{"name": "x"}', "protocol: Field required")]
)
def test_unreadable_study_is_one_clear_line(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(KvformerError, match=words) as caught:
        collect(tmp_path)
    assert "study.json" in str(caught.value) and "\n" not in str(caught.value)


def test_gzip_header_has_no_time_and_no_name(small: Path) -> None:
    collect(small)
    content = (small / "curves.csv.gz").read_bytes()
    assert content[3] == 0 and content[4:8] == bytes(4)
    assert gzip.decompress(content).startswith(b"task,setting,")
