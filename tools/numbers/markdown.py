"""Markers in Markdown: `<!-- = expression -->text<!-- / -->`.

A text of one line stands inline; a text of several lines (a table) is a block of its own, with blank lines around it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

Compute = Callable[[str], str]
"""An expression to its text. Raises ValueError with one line that says what is wrong."""

MARKER = re.compile(r"<!-- = (?P<expression>(?:(?!-->).)+?) -->(?P<text>.*?)<!-- / -->", re.DOTALL)
LINE_START = re.compile(r"[\s>]*([-*+]\s+|\d+[.)]\s+)?")
"""What may come before the first word of a line of prose: a quotation's or a list item's sign."""
OPENING, CLOSING = "<!-- =", "<!-- / -->"


class DocumentError(Exception):
    """A marker that cannot be filled: file, line, and why."""


@dataclass(frozen=True)
class Marker:
    """A marker in a document: the place of its text, what is written there, and what should be."""

    line: int
    expression: str
    start: int
    end: int
    written: str
    computed: str


def read(document: str, name: str, compute: Compute) -> list[Marker]:
    """The markers of a document, each with its text computed. name: of the file, for errors.

    Raises:
        DocumentError: a marker is not closed, starts a line of prose, or its expression is wrong.
    """
    _refuse_unpaired(document, name)
    markers = []
    for match in MARKER.finditer(document):
        line = document.count("\n", 0, match.start()) + 1
        expression = " ".join(match["expression"].split())
        try:
            computed = compute(expression)
        except ValueError as error:
            raise DocumentError(f"{name}:{line}: {error}") from None
        if "\n" in computed:
            computed = f"\n\n{computed}\n\n"
        elif LINE_START.fullmatch(document[: match.start()].rpartition("\n")[2]):
            # Markdown takes a line that starts with a comment for HTML, and formats nothing in it.
            raise DocumentError(f"{name}:{line}: a number must not start a line: move a word before it")
        markers.append(Marker(line, expression, match.start("text"), match.end("text"), match["text"], computed))
    return markers


def fill(document: str, markers: list[Marker]) -> str:
    """The document with the computed text in every marker."""
    pieces, position = [], 0
    for marker in markers:
        pieces += [document[position : marker.start], marker.computed]
        position = marker.end
    return "".join([*pieces, document[position:]])


def stale(markers: list[Marker], name: str) -> list[str]:
    """One line per marker whose text differs from its expression: file, line, expression, both texts."""
    return [
        f"{name}:{marker.line}: {marker.expression}: '{_short(marker.written)}' should be '{_short(marker.computed)}'"
        for marker in markers
        if marker.written != marker.computed
    ]


def without_markers(document: str) -> str:
    """The document without marked texts: what people wrote by hand. Lines keep their numbers."""
    return MARKER.sub(lambda match: "\n" * match[0].count("\n"), document)


def _refuse_unpaired(document: str, name: str) -> None:
    """Every opening comment must be followed by its closing one before the next opens."""
    open_line = 0
    for match in re.finditer(f"{OPENING}|{CLOSING}", document):
        line = document.count("\n", 0, match.start()) + 1
        if match[0] == OPENING and open_line:
            raise DocumentError(f"{name}:{open_line}: this marker is not closed by {CLOSING}")
        if match[0] == CLOSING and not open_line:
            raise DocumentError(f"{name}:{line}: {CLOSING} closes no marker")
        open_line = line if match[0] == OPENING else 0
    if open_line:
        raise DocumentError(f"{name}:{open_line}: this marker is not closed by {CLOSING}")


def _short(text: str, most: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}…"
