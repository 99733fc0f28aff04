"""What is wrong with a configuration, in one line."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kvformer.spec.sections import Section

UNION_TAG = re.compile(r"bool|int|float|str|constrained-\w+|list\[.*\]|Looks")
"""How pydantic marks, inside a location, which alternative of a union an error is about."""
REPLACED = {
    "profile": ("cost", "it is called 'cost' now"),
    "nuisance": (
        "tuning",
        "'tuning' replaces it and chooses on seeds that are not reported: "
        "tuning: {grid: {training.learning_rate: [3e-4, 1e-3, 3e-3]}, seeds: 2}",
    ),
}
"""Keys of earlier versions: the key there is instead, and what to say."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist."""
    return f"there is no {kind} '{name}'; allowed: {', '.join(known)}"


def describe_errors(error: ValidationError, root: type[Section], prefix: str = "") -> str:
    """A ValidationError as one line: the key, what it holds and what is allowed."""
    problems = [(_location(item), item) for item in error.errors(include_url=False)]
    first = problems[0][0]
    related = [(place, item) for place, item in problems if place[: len(first)] == first]
    place = max((place for place, _ in related), key=len)
    alternatives = [item for other, item in related if other == place]
    key = ".".join([prefix, *place] if prefix else place)
    more = f" (and {len(problems) - len(related)} more)" if len(related) < len(problems) else ""
    text = _text(alternatives, place, root) + more
    return f"{key}: {text}" if key else text


def _location(error: ErrorDetails) -> list[str]:
    """The path of keys to an error, without pydantic's names of the types that a value could have had."""
    parts = error["loc"]
    tagged = parts[:-1] if error["type"] == "extra_forbidden" else parts  # the unknown key may be called `int`
    keys = [str(part) for part in tagged if isinstance(part, int) or not UNION_TAG.fullmatch(part)]
    return keys + [str(part) for part in parts[len(tagged) :]]


def _text(alternatives: list[ErrorDetails], place: list[str], root: type[Section]) -> str:
    """The messages of all alternatives that a value could have been."""
    first = alternatives[0]
    if first["type"] == "extra_forbidden":
        return _unknown_key(place, root)
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    if first["type"] == "missing":
        return "is missing"
    held = repr(first["input"])
    held = held if len(held) <= 60 else f"{held[:57]}..."
    if first["type"] in ("model_type", "dict_type"):
        return f"must be a mapping of keys, not {held}"
    messages = dict.fromkeys(
        "a mapping of keys" if item["type"] == "model_type" else item["msg"].removeprefix("Input should be ")
        for item in alternatives
    )
    text = ("must be " if first["msg"].startswith("Input should be ") else "") + " or ".join(messages)
    return text if ", not " in text else f"{text}, not {held}"


def _unknown_key(place: list[str], root: type[Section]) -> str:
    known = _known_keys(root, place[:-1])
    instead, text = REPLACED.get(place[-1], (None, ""))
    if instead in known:
        return f"unknown key; {text}"
    close = difflib.get_close_matches(place[-1], known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown key; {hint}allowed: {', '.join(known)}" if known else "unknown key"


def _known_keys(model: Any, location: list[str]) -> list[str]:
    """The keys of the section at `location` below a section class."""
    for part in location:
        fields = getattr(model, "model_fields", {})
        field = fields.get(part) or fields.get(f"task_{part}")
        if field is None:
            return []
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)
    return [field.alias or name for name, field in model.model_fields.items()] if model is not None else []
