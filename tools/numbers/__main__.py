"""`python -m tools.numbers`: write the numbers of the documents, or check them."""

import argparse
import sys
from pathlib import Path

from tools.numbers.expressions import evaluate
from tools.numbers.markdown import DocumentError, fill, read, stale
from tools.numbers.verdict import pictures
from tools.numbers.vocabulary import VOCABULARY

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "docs/findings.md", "docs/performance.md", "docs/statistics.md")


def main() -> int:
    """Exit code 0: all is up to date, or was written. 1: `--check` found a difference. 2: a marker is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.numbers", description="Write the numbers of the documents.")
    parser.add_argument("--check", action="store_true", help="change nothing; name what is out of date")
    check: bool = parser.parse_args().check
    found: list[str] = []
    try:
        for name in DOCUMENTS:
            path = ROOT / name
            document = path.read_text(encoding="utf-8")
            markers = read(document, name, compute)
            found += stale(markers, name)
            if not check:
                path.write_text(fill(document, markers), encoding="utf-8")
        for path, content in pictures():
            if not path.exists() or path.read_text(encoding="utf-8") != content:
                found.append(f"{path.relative_to(ROOT)}: the picture of the verdict is out of date")
                if not check:
                    path.write_text(content, encoding="utf-8")
    except DocumentError as error:
        print(f"numbers: {error}", file=sys.stderr)
        return 2
    print("\n".join(found) or "numbers: all are up to date")
    return 1 if check and found else 0


def compute(expression: str) -> str:
    """The text of an expression, from the committed results."""
    return evaluate(expression, VOCABULARY)


if __name__ == "__main__":
    sys.exit(main())
