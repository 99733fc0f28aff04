"""The list of slow tests names folders, files and tests that exist: a renamed one would be run as a fast one."""

import importlib.util
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def slow() -> tuple[str, ...]:
    specification = importlib.util.spec_from_file_location("slow_tests", TESTS / "conftest.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return tuple(module.SLOW)


@pytest.mark.parametrize("entry", slow())
def test_every_entry_exists(entry: str) -> None:
    file, _, name = entry.partition("::")
    assert (TESTS / file).exists()
    assert not name or f"def {name}(" in (TESTS / file).read_text(encoding="utf-8")
