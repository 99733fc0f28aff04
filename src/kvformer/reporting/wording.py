"""How the page prints numbers and lists: a true minus sign, units that stay on the line of their number."""

import re
from collections.abc import Iterable
from html import escape
from math import ceil, isnan, log10

from kvformer.analysis.quantities import Quantity
from kvformer.reporting import cells

SPACE = "\N{NO-BREAK SPACE}"
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def signed(value: float, digits: int) -> str:
    """`+0.6`, `−4.0`, `0.0`."""
    return cells.signed(value, digits).replace("-", "−")


def interval(low: float, high: float, digits: int) -> str:
    """`[−0.57, +0.10]`; empty where there is none."""
    return "" if isnan(low) else f"[{signed(low, digits)},{SPACE}{signed(high, digits)}]"


def percent(change: float) -> str:
    """What a change of a cost in per cent is called: `−25 %`, or `same` below half a per cent."""
    return "same" if abs(change) < 0.5 else f"{signed(change, 0)}{SPACE}%"


def level(value: float, what: Quantity) -> str:
    """A value of a metric: `95.5 %`, `1.893 nats`."""
    return "–" if isnan(value) else f"{what.scale * value:.{what.decimals}f}{SPACE}{what.unit or what.step}"


def with_step(size: str, what: Quantity) -> str:
    """A printed difference with its unit: `1 point`, `2.5 points`."""
    return f"{size} {'point' if (size, what.step) == ('1', 'points') else what.step}"


def margin_of(margin: float, what: Quantity) -> str:
    """A margin with its unit, in full: it is given and not measured."""
    return with_step(f"{what.scale * margin:g}", what)


def tenth(margin: float) -> int:
    """The decimals that show a tenth of a margin."""
    return max(0, ceil(-log10(margin) + 1 - 1e-9))


def count(n: int, one: str, many: str = "") -> str:
    """`1 task`, `2 tasks`."""
    return f"{n} {one if n == 1 else many or f'{one}s'}"


def span(numbers: Iterable[int]) -> str:
    """`5`, or `8 to 12` for different numbers; `0` for none."""
    known = set(numbers)
    return " to ".join(map(str, sorted({min(known), max(known)}))) if known else "0"


def word(n: int) -> str:
    """`four`; digits above ten."""
    return NUMBERS[n] if n < len(NUMBERS) else str(n)


def listing(items: Iterable[str]) -> str:
    """`a, b and c`; empty for nothing."""
    *first, last = list(items) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def name(variant: str) -> str:
    """A variant's name as code, in the light Markdown of the sentences."""
    return f"`{variant}`"


def capital(text: str) -> str:
    """The text with a capital letter first, unless it starts with a name."""
    return text[:1].upper() + text[1:]


def sentence_case(label: str) -> str:
    """A task's label inside a sentence: `Sort` becomes `sort`, `MNIST` stays."""
    return label[:1].lower() + label[1:] if label[1:].islower() or (" " in label and label[1:2].islower()) else label


def markup(text: str) -> str:
    """HTML of the light Markdown of the sentences: `code` and **strong**; everything else is text."""
    safe = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)


def breakable(name: str) -> str:
    """HTML of a name that may be broken after an underscore or a hyphen."""
    return re.sub("([_-])", r"\1<wbr>", escape(name))


def labelled(label: str) -> str:
    """HTML of a task's label, with what stands in brackets in small print."""
    name, bracket, rest = label.partition(" (")
    return f"{escape(name)} <small>({escape(rest)}</small>" if bracket else escape(label)
