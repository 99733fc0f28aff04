"""What the documents point to exists: files, headings, and the tests that the recipes of CONTRIBUTING.md name."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "results/README.md", "config/README.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
PLACES = ("src/", "tests/", "tools/", "docs/", "config/", "workflow/", "benchmarks/", "profiles/", ".github/", ".ci/")


@cache
def headings(path: Path) -> set[str]:
    """The anchors of a document, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_headings(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, heading = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{name}: {target}"
        assert not heading or heading in headings(found), f"{name}: {target}"


def test_the_files_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {word for word in re.findall(r"`([^`\s]+)`", text) if word.startswith(PLACES) and "<" not in word}
    assert named
    for word in sorted(named):
        file, _, test = word.partition("::")
        assert (ROOT / file).exists(), word
        assert not test or f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), word


def test_readme_begins_with_the_question_the_answer_and_two_commands() -> None:
    top = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40])
    for part in ("Does a transformer need its query?", "<!-- = answer() -->", "\nmake run ", "make run CONFIG=config/"):
        assert part in top, part
