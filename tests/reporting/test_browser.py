"""The page in a real browser: it fits, it can be read by day, by night and in print, and it asks for nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, open_browser
from PIL import Image
from situations import TASKS, results

from kvformer.records.study import LookRecord, OpenComparison, look_file
from kvformer.reporting.page import write_report
from kvformer.spec.variants import VARIANTS

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
SITUATIONS = ("five", "two", "many", "few", "looks", "lost")
ALL = ["worse", "leaning worse", "undecided", "not worse", "equivalent", "leaning better", "better"]
WORSE = ["worse", "both solve", "equivalent", "both solve", "undecided", "worse", "leaning worse"]
CONTRAST = """
(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, below) => {
    const alpha = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map(i => alpha * top[i] + (1 - alpha) * below[i]);
  };
  const light = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + .05) / (Math.min(light(a), light(b)) + .05);
  // The colours behind an element: one, or those of a pattern. An ancestor's pattern counts like its ground.
  const grounds = element => {
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e), ground = parse(style.backgroundColor);
      if (style.backgroundImage.includes("gradient")) {
        const found = style.backgroundImage.match(/rgba?\\([^)]*\\)/g).map(parse).filter(c => c.length < 4 || c[3] > 0);
        return found.concat([parse(getComputedStyle(document.body).backgroundColor)]);
      }
      if (ground.length < 4 || ground[3] === 1) return [ground];
      if (ground[3] > 0) return grounds(e.parentElement).map(below => over(ground, below));
    }
    return [[255, 255, 255]];
  };
  const weak = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    if (!walker.currentNode.data.trim() || element.closest(".unseen, .skip, style") || !box.width) continue;
    const ink = parse(element.closest("svg") ? style.fill : style.color);
    texts += 1;
    for (const ground of grounds(element))
      if (ratio(over(ink, ground), ground) < 4.5)
        weak.push([walker.currentNode.data.trim().slice(0, 30), element.className.toString(), ink, ground].join(" "));
  }
  return {texts, weak};
})()
"""
OUTSIDE = """
[...document.querySelectorAll("body *")]
  .filter(e => !e.parentElement.closest(".scroll, nav, .skip") && !e.matches(".skip"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && e.getBoundingClientRect().width)
  .map(e => e.tagName + " " + e.className + " " + e.textContent.slice(0, 40))
"""
OPEN_ALL = "document.querySelectorAll('details').forEach(part => { part.open = true })"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page for each situation."""
    root = tmp_path_factory.mktemp("pages")
    folders = {name: root / name for name in SITUATIONS}
    for folder in folders.values():
        folder.mkdir()
    five = {"q_kv": ALL, "kv": WORSE, "kv_pos": WORSE, "k": WORSE, "k_pos": ["both solve"] * len(TASKS)}
    averages = dict(zip(five, ("equivalent", "worse", "worse", "mixed", "undecided"), strict=True))
    many = dict.fromkeys(list(VARIANTS)[1:23], ALL)
    taken = LookRecord(look=1, seeds=8, time="now", open=[OpenComparison(task="mnist", variant="kv")])
    taken.write(look_file(folders["looks"], 1))
    lost = [{"task": "sort", "setting": "default", "variant": "kv", "seed": 2, "status": "diverged", "path": "runs/a"}]
    (folders["five"] / "figures").mkdir()
    Image.new("1", (2400, 600), 1).save(folders["five"] / "figures" / "attention-synthetic.png")
    looks = {"looks": [8, 12, 20], "weights": [0.2, 0.3, 0.5], "seeds": 8, "pairs": {("mnist", "kv"): 12}}
    found = {
        "five": results(folders["five"], five, averages),
        "two": results(folders["two"], {"kv": WORSE}, {"kv": "worse"}),
        "many": results(folders["many"], many, dict.fromkeys(many, "not worse")),
        "few": results(folders["few"], {"kv": ALL[:2], "kv_pos_small": ALL[3:5]}, tasks=["sort", "translation"]),
        "looks": results(folders["looks"], five, averages, **looks),
        "lost": results(folders["lost"], five, averages, lost=lost, pairs={("sort", "kv"): 4}),
    }
    return {name: write_report(found[name]) for name in SITUATIONS}


@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_nothing_is_wider_than_the_window(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    browser.show(pages[name], width)
    browser.value(OPEN_ALL)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(OUTSIDE) == []


@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_text_stands_out_by_day_and_by_night(
    browser: Browser, pages: dict[str, Path], name: str, dark: bool, width: int
) -> None:
    browser.show(pages[name], width, dark=dark)
    browser.value(OPEN_ALL)
    found = browser.value(CONTRAST)
    assert found["texts"] > 100 and found["weak"] == []
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(19, 23, 26)" if dark else "rgb(255, 255, 255)")


def test_it_asks_for_nothing_and_complains_of_nothing(browser: Browser, pages: dict[str, Path]) -> None:
    for page in pages.values():
        browser.show(page, 1280)
        assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.errors == []


def test_figures_are_inside_the_page(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(pages["five"], 390)
    seen = browser.value("[...document.images].map(image => [image.complete && image.naturalWidth, image.alt])")
    assert seen == [[2400, "Attention maps: Synthetic"]]


def test_it_has_no_script_and_folds_without_one(browser: Browser, pages: dict[str, Path]) -> None:
    page = pages["five"].read_text(encoding="utf-8")
    assert "<script" not in page and not re.search(r"\son\w+=", page)
    browser.show(pages["five"], 1280)  # the driver switches JavaScript off
    assert browser.value("document.querySelector('#words ~ details ul').checkVisibility()") is False
    browser.value("document.querySelector('#words ~ details summary').click()")
    assert browser.value("document.querySelector('#words ~ details ul').checkVisibility()") is True


@pytest.mark.parametrize("name", ["five", "two", "looks"])
def test_the_answer_fits_the_first_screen(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.show(pages[name], 1280, 960)
    for part in (".answers", ".average", ".map table", *([] if name == "looks" else [".open"])):
        assert browser.value(f"document.querySelector('{part}').getBoundingClientRect().bottom") <= 960, part
    browser.show(pages[name], 390, 844)
    assert browser.value("document.querySelector('.answers div').getBoundingClientRect().bottom") <= 844


def test_every_number_of_the_first_screen_leads_to_its_table(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(pages["five"], 1280)
    targets = browser.value("[...document.querySelectorAll('.first a')].map(link => link.getAttribute('href'))")
    assert {"#choice", "#cost", "#t-sort", "tables/paired.csv"} <= set(targets)
    missing = "[...new Set({})].filter(link => link[0] == '#' && !document.getElementById(link.slice(1)))"
    assert browser.value(missing.format(targets)) == []
    cells = browser.value(
        "[...document.querySelectorAll('.map td.cell')].filter(cell => !cell.querySelector('a')).length"
    )
    assert cells == 0


def test_text_is_large_enough(browser: Browser, pages: dict[str, Path]) -> None:
    for width in (390, 1280):
        browser.show(pages["five"], width)
        sizes = (
            "[...document.querySelectorAll('p,li,td,dd,figcaption')].map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(browser.value(sizes)) >= 11.5


@pytest.mark.parametrize("name", ["five", "two"])
def test_the_first_printed_page_holds_headline_answers_average_and_map(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    width, height = round(275 / 25.4 * 96), 188 / 25.4 * 96  # A4 on its side, without margins
    browser.show(pages[name], width, dark=True, media="print")
    for part in ("h1", ".answers", ".average", ".map table"):
        assert browser.value(f"document.querySelector('{part}').getBoundingClientRect().bottom") <= height, part
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value(CONTRAST)["weak"] == []
    printed = browser.pdf()
    assert printed.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2
