"""Averaged curves: what is drawn is what every seed and every setting has."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_study import DIVERGED

from kvformer.analysis.curves import COLUMNS, average, read_curves, write_curves
from kvformer.errors import KvformerError


def frame() -> pd.DataFrame:
    rows = [(setting, seed, step) for setting in "ab" for seed in (0, 1) for step in (10, 20)]
    table = pd.DataFrame(rows, columns=["setting", "seed", "step"])
    return table.assign(metric="x", epoch=0.5, elapsed=table["step"] / 10 + table["seed"], value=np.arange(1.0, 9))


def test_average_leaves_out_what_not_every_seed_has() -> None:
    found = average(frame(), ["metric"])
    assert found["elapsed"].tolist() == [1.5, 2.5] and found["epoch"].tolist() == [0.5, 0.5]
    assert found["mean"].tolist() == [4.0, 5.0]
    assert found["low"].tolist() == [3.0, 4.0] and found["high"].tolist() == [5.0, 6.0]
    torn = average(frame().drop(index=1), ["metric"])  # setting a, seed 0, step 20
    assert torn["step"].tolist() == [10.0] and torn["mean"].tolist() == [4.0]
    one = average(frame()[lambda table: table["setting"] == "a"], ["metric"])
    assert one["mean"].tolist() == [2.0, 3.0]
    assert average(frame().iloc[:0], ["metric"]).empty


def test_curves_are_averaged_apart() -> None:
    two = pd.concat([frame(), frame().assign(metric="y", value=1.0)])
    found = average(two, ["metric"])
    assert found.groupby("metric")["mean"].agg(list).to_dict() == {"x": [4.0, 5.0], "y": [1.0, 1.0]}


def test_a_step_at_which_a_seed_is_not_a_number_is_left_out() -> None:
    found = average(frame().assign(value=[1.0, np.nan, 3, 4, 5, np.nan, 7, 8]), ["metric"])
    assert found["step"].tolist() == [10.0]


def test_long_curves_are_smoothed_by_a_hundredth() -> None:
    table = pd.DataFrame({"setting": "a", "seed": 0, "step": range(1000), "value": [0.0, 1.0] * 500})
    found = average(table.assign(metric="x", epoch=0.0, elapsed=0.0), ["metric"])
    assert len(found) == 991 and found["mean"].to_numpy() == pytest.approx(np.full(991, 0.5))


def test_a_diverged_run_is_kept_apart(curves: pd.DataFrame) -> None:
    task, setting, variant, seed = DIVERGED
    apart = curves[curves["seed"] != ""]
    assert set(apart[["task", "setting", "variant", "seed"]].itertuples(index=False, name=None)) == {
        (task, setting, variant, str(seed))
    }
    assert not np.isfinite(apart[apart["metric"] == "train/loss"]["mean"].iloc[-1])


def test_grids_are_averaged_at_each_setting_too(curves: pd.DataFrame) -> None:
    of_settings = curves[(curves["setting"] != "") & (curves["seed"] == "")]
    assert set(of_settings["task"]) == {"copy"} and set(of_settings["metric"]) == {"validation/loss"}


def test_curves_are_read_as_they_were_written(curves: pd.DataFrame, tmp_path: Path) -> None:
    first = write_curves(curves, tmp_path).read_bytes()
    assert write_curves(curves, tmp_path).read_bytes() == first
    read = read_curves(tmp_path)
    assert list(read.columns) == COLUMNS
    pd.testing.assert_frame_equal(read, curves, check_exact=True)


@pytest.mark.parametrize(("content", "words"), [(None, "kvformer analyse"), (b"torn", "not readable")])
def test_damaged_curves_are_one_clear_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "curve_means.csv.gz").write_bytes(content)
    with pytest.raises(KvformerError, match=words) as caught:
        read_curves(tmp_path)
    assert "curve_means.csv.gz" in str(caught.value) and "\n" not in str(caught.value)
