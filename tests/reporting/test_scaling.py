"""The scaling law on the page, in tables, in the figure and in sentences."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import situations
from test_figures import check_texts

from kvformer.analysis.results import Results, _layouts
from kvformer.reporting.figures import scaling as figure_of
from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.page import write_report
from kvformer.reporting.scaling import held_out_sentence, scaling_sentence, scaling_sentences
from kvformer.reporting.style import figure_style
from kvformer.reporting.tables import study_tables

VARIANTS = {"qkv": 1.0, "kv": 0.7, "q_kv": 0.85, "mqa": 1.1, "kv_rot": 0.95}
SIZES = ((5e4, (1.2e6, 4.9e6)), (2e5, (1.2e6, 4.9e6)), (6e5, (1.2e6, 2.5e6)), (2e6, (1.2e6, 2.5e6)))


def law(parameters: float, tokens: float, worth: float) -> float:
    return float(1.0 + 60 / (worth * parameters) ** 0.4 + 400 / tokens**0.5)


def results(folder: Path, **changes: Any) -> Results:
    """Five variants at four sizes, two numbers of tokens each. changes: of each row of `scaling_variants`."""
    points = []
    for name, worth in VARIANTS.items():
        for size, budgets in SIZES:
            for tokens in budgets:
                loss, held_out = law(size, tokens, worth), size == 2e6
                gap = loss - law(size, tokens, 1)
                row = {
                    "task": "characters",
                    "setting": f"n{size:.0f}_{tokens:.0f}",
                    "variant": name,
                    "n": 4,
                    "expected": 4,
                }
                row |= {"size": size, "parameters": 0.9 * size, "total": 1.1 * size, "tokens": tokens}
                row |= {"compute": 6 * size * tokens, "loss": loss + 0.004, "fitted": loss, "held_out": held_out}
                row |= {"predicted": loss + 0.01}
                if name != "qkv":
                    row |= {"gap": gap, "gap_low": gap - 0.006, "gap_high": gap + 0.006}
                points.append(row)
    variants = [
        {"variant": name, "n": 4, "worth": worth, "worth_low": 0.9 * worth, "worth_high": 1.1 * worth}
        | {"compute": 100 * (1 / worth - 1), "compute_low": 8.2, "compute_high": 16.4, "error": 0.52}
        | {"gap": 0.04, "slope": 0.0121, "slope_low": 0.0043, "slope_high": 0.0199, "trend": "grows"}
        | changes
        for name, worth in VARIANTS.items()
    ]
    constants = [
        {"quantity": name, "value": 1.2345, "low": 1.1, "high": 1.4} for name in ("E", "A", "alpha", "B", "beta")
    ]
    found = situations.results(
        folder, dict.fromkeys(list(VARIANTS)[1:], "worse"), tasks=["characters"], seeds=4, scaling="characters"
    )
    layouts = dict(_layouts())
    tables = {"scaling": points, "scaling_variants": variants, "scaling_law": constants}
    return replace(found, **{name: situations._filled(layouts[name], rows) for name, rows in tables.items()})


def test_the_sentence_says_compute_and_trend(tmp_path: Path) -> None:
    found = results(tmp_path)
    sentences = [text.replace("\N{NO-BREAK SPACE}", " ") for text in scaling_sentences(found)]
    assert len(sentences) == 4
    assert sentences[0] == (
        "To reach the loss of `qkv`, `kv` needs 43 % more compute [+8, +16]; "
        "the gap grows with size (+0.012 nats [+0.004, +0.020] per tenfold size)."
    )
    assert "`mqa` needs 9 % less compute" in sentences[2]
    assert held_out_sentence(found).count("+0.5") == 5


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trend": "neither"}, "the gap is not shown to grow or to shrink with size (+0.012"),
        ({"trend": "shrinks", "gap": -0.01}, "the lead shrinks with size (+0.012"),
        ({"trend": "", "slope": NAN}, "needs 43 % more compute [+8, +16]."),
        ({"compute": NAN}, "`kv`: no law could be fitted; the gap grows with size"),
        ({"compute": NAN, "trend": ""}, "`kv`: no law could be fitted."),
        ({"compute": -9, "compute_low": -13, "compute_high": -5}, "needs 9 % less compute [+5, +13]; the gap"),
        ({"compute": -5, "compute_low": -39, "compute_high": 48}, "5 % less compute [39 % less to 48 % more]; the gap"),
        ({"compute_low": NAN, "compute_high": NAN}, "needs 43 % more compute; the gap"),
    ],
)
def test_the_sentence_says_no_more_than_is_known(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    row = results(tmp_path, **changes).scaling_variants.iloc[1]
    assert words in scaling_sentence(row, "qkv").replace("\N{NO-BREAK SPACE}", " ")


def test_the_figure_shows_points_law_held_out_size_and_gaps(tmp_path: Path) -> None:
    found = results(tmp_path)
    data = FigureData(found, pd.DataFrame(columns=["task", "metric"]))
    with figure_style():
        ((name, figure),) = figure_of.draw(data)
        assert name == "characters"
        losses, gaps = figure.axes
        own = found.scaling[found.scaling["variant"] == "kv"]
        colour = data.styles["kv"].colour
        lines = [line for line in losses.get_lines() if line.get_color() == colour]
        drawn = {x: y for line in lines if line.get_marker() == "s" for x, y in line.get_xydata()}
        assert drawn == dict(zip(own["compute"], own["loss"], strict=True))
        hollow = [line for line in lines if line.get_markerfacecolor() == "white"]
        assert sorted(x for line in hollow for x in line.get_xdata()) == sorted(own.loc[own["held_out"], "compute"])
        marks = [line for line in gaps.get_lines() if line.get_color() == colour]
        assert sorted(y for line in marks for y in line.get_ydata()) == pytest.approx(sorted(own["gap"]))
        check_texts("scaling", figure)


def test_a_study_without_costs_is_drawn_against_parameters_and_one_without_losses_is_not(tmp_path: Path) -> None:
    found = results(tmp_path)
    curves = pd.DataFrame(columns=["task", "metric"])
    without = replace(found, scaling=found.scaling.assign(compute=np.nan))
    with figure_style():
        ((_, figure),) = figure_of.draw(FigureData(without, curves))
        assert figure.axes[0].get_xlabel() == "Parameters"
        assert not list(figure_of.draw(FigureData(replace(found, scaling=found.scaling.assign(loss=np.nan)), curves)))


def test_the_page_and_the_tables_have_it(tmp_path: Path) -> None:
    found = results(tmp_path)
    page = write_report(found, None).read_text(encoding="utf-8")
    assert '<li><a href="#scaling">' in page and '<section aria-labelledby="scaling">' in page
    section = page[page.index('<section aria-labelledby="scaling">') :]
    assert "43\N{NO-BREAK SPACE}% more compute" in section
    tables = {table.name: table for table in study_tables(found)}
    assert {"scaling", "scaling_law", "scaling_variants"} <= tables.keys()
    assert tables["scaling_variants"].frame["gap"].tolist() == ["grows"] * 5
    shown = {column.header: column.cells for column in tables["scaling_variants"].shown()}
    assert shown["worth of a parameter"][1] == "0.700 [0.630, 0.770]"
    assert list(shown)[-2:] == ["gap per tenfold size", "error of prediction %"]
    assert len(tables["scaling"].frame) == 40


def test_other_studies_have_no_such_section(tmp_path: Path) -> None:
    found = situations.results(tmp_path, {"kv": "worse"})
    assert "scaling" not in write_report(found, None).read_text(encoding="utf-8")
    assert not {"scaling", "scaling_law", "scaling_variants"} & {table.name for table in study_tables(found)}
