"""Worse, or only slower? And how much is the test set's error? In tables, in a figure and in words."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kvformer.analysis.analyse import analyse
from kvformer.analysis.results import TOO_FEW, Results
from kvformer.reporting.figures import gaps
from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.remarks import on_sampling, on_training
from kvformer.reporting.style import figure_style
from kvformer.reporting.tables import study_tables
from kvformer.reporting.training_tables import factor


def table(results: Results, name: str) -> pd.DataFrame:
    (found,) = [table for table in study_tables(results) if table.name == name]
    return found.frame


def with_pace(results: Results, **columns: object) -> Results:
    return replace(results, pace=results.pace.assign(**columns))


def test_the_table_of_paces_has_a_row_for_every_comparison(results: Results) -> None:
    frame = table(results, "pace")
    assert list(zip(frame["task"], frame["variant"], strict=True)) == list(
        zip(results.paired["task"], results.paired["variant"], strict=True)
    )
    row = frame.set_index(["task", "variant"]).loc[("reverse", "kv")]
    assert row["course"] == "still behind" and row["learning rate falls"] == "yes"
    assert float(row["at 100 %"]) == pytest.approx(-4, abs=0.4)
    low, high = map(float, re.fullmatch(r"\[([-+.\d]+), ([-+.\d]+)\]", row["end"]).groups())
    assert low < float(row["at 100 %"]) < high < -1
    assert row["steps"].startswith("more than 1.") and row["steps, 95 %"].endswith(", no limit]")
    assert row["reached"] == "0 of 6"


def test_the_table_of_gaps_has_four_rows_for_each_and_units(results: Results) -> None:
    frame = table(results, "gaps")
    assert len(frame) == 4 * len(results.paired)
    own = frame[(frame["task"] == "characters") & (frame["variant"] == "kv")]
    assert list(own["steps"]) == ["25 %", "50 %", "75 %", "100 %"]
    assert own["difference"].str.startswith("+").all() and own["margins"].str.startswith("-").all(), "a higher loss"


def test_tasks_with_too_few_evaluations_are_named_and_not_in_the_table(results: Results) -> None:
    few = results.pace["verdict"].where(results.pace["task"] != "mnist", TOO_FEW)
    changed = replace(with_pace(results, verdict=few), gaps=results.gaps[results.gaps["task"] != "mnist"])
    assert "mnist" not in set(table(changed, "pace")["task"])
    assert "Whether a variant is only slower is not said of MNIST: too few evaluations." in on_training(changed)


def test_how_a_factor_is_printed() -> None:
    assert (
        factor(1.2345, np.nan) == "1.23" and factor(np.inf, 1.386) == "more than 1.39" and factor(0.8, np.nan) == "0.80"
    )


def test_the_course_in_words(results: Results) -> None:
    verdicts = dict.fromkeys(zip(results.pace["task"], results.pace["variant"], strict=True), "level")
    verdicts |= {("reverse", "kv"): "only slower", ("copy", "kv"): "only slower", ("sort", "kv"): "still behind"}
    verdicts |= {("mnist", "kv_pos"): "unclear"}
    changed = with_pace(results, verdict=list(verdicts.values()), decays=results.pace["task"] == "sort")
    first, *others = on_training(changed)
    assert first == (
        "Over training, by the validation metric, of 10 comparisons: 6 level with qkv at the end, 2 only slower, 1 "
        "still behind, 1 unclear. The learning rate falls on Sort: a gap that is flat at the end does not predict a "
        "longer run."
    )
    assert others == ["Over training, kv is only slower on Reverse and Copy, and still behind on Sort."]
    steady = on_training(with_pace(changed, decays=False))
    assert steady[0].endswith("1 unclear.")
    assert "falls on all of these tasks:" in on_training(with_pace(changed, decays=True))[0]


def test_without_curves_or_margins_nothing_is_claimed(results: Results) -> None:
    assert on_training(replace(results, pace=results.pace.iloc[:0])) == []
    assert on_training(with_pace(results, verdict="no margin")) == [
        "Whether a variant is only slower is not said of Reverse, Copy, Sort, MNIST and Characters: "
        "no margin was fixed."
    ]


def test_the_test_sets_error_in_words(results: Results) -> None:
    first, second = on_sampling(results)
    assert re.match(
        r"The finite test set makes up \d+ % of the variance of a difference \(median; \d+ to \d+ %\)\.", first
    )
    assert "On MNIST all seeds share their test examples" in first and "Reverse" not in first
    assert second == "The error of the test set is not known for Characters: they are not judged by accuracy."
    (frame,) = [table(results, "sampling")]
    shares = frame["seeds %"].astype(float) + frame["test set %"].astype(float)
    assert (abs(shares - 100) <= 1).all()
    assert set(frame["test sets"]) == {"shared", "own"}


def test_a_study_of_1_0_says_nothing_of_it(collected: Path, tmp_path: Path) -> None:
    for name in ("study.json", "runs.csv", "curves.csv.gz"):
        shutil.copy(collected / name, tmp_path)
    results = analyse(tmp_path)
    assert on_sampling(results) == []
    assert "sampling" not in {table.name for table in study_tables(results)}


def test_the_figure_fits_the_second_half_and_names_the_ends(results: Results, curves: pd.DataFrame) -> None:
    early = results.gap_curves.copy()
    early.loc[early["share"] < 0.3, "margins"] = -300.0
    data = FigureData(replace(results, gap_curves=early), curves)
    with figure_style():
        figure = dict(gaps.draw(data))["synthetic"]
    panels = {ax.get_title("left"): ax for ax in figure.axes}
    assert set(panels) == {"Reverse", "Copy", "Sort"}
    for ax in panels.values():
        assert {text.get_text() for text in ax.texts} == {"kv", "kv+pos"}
        low, high = ax.get_ylim()
        assert low > -30 and low < -1 < 1 < high
    last = early[(early["task"] == "reverse") & (early["variant"] == "kv")].iloc[-1]
    lines = [line for line in panels["Reverse"].lines if len(line.get_xdata()) > 2]
    assert any(line.get_ydata()[-1] == last["margins"] and line.get_xdata()[-1] == 100 for line in lines)


def test_many_variants_have_a_legend_instead(
    results: Results, curves: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps, "LABELLED", 1)
    with figure_style():
        figure = dict(gaps.draw(FigureData(results, curves)))["vision"]
    assert not figure.axes[0].texts
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["kv", "kv+pos"]
