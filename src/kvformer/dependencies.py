"""Which source files of this package a module depends on, read from import statements without importing anything."""

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from kvformer.files import sha256_bytes

PACKAGE = Path(__file__).parent
CONFIGURATION = ("config.run", "config.loading", "config.study", "spec.sections", "tasks", "spec.variants")
"""Modules that only lead to a resolved run and its variant's definition, which a training is given: they change no
result by themselves."""


def source_files(*modules: str, without: Collection[str] = ()) -> list[Path]:
    """Files of `modules` and of all that they import from this package, directly or not, wherever the import stands;
    sorted.

    modules, without: dotted names relative to the package (`training.run`). What is in `without` is neither listed nor
        followed.
    """
    found: dict[str, Path] = {}
    pending = list(modules)
    while pending:
        module = pending.pop()
        path = _path_of(module)
        if path is not None and module not in found and module not in without:
            found[module] = path
            pending.extend(_imports(path))
    return sorted(found.values())


def training_sources(module: str) -> list[Path]:
    """Files that influence the training of the tasks that a module of `tasks/` defines."""
    return source_files("training.run", f"tasks.{module}", without=CONFIGURATION)


@cache
def code_digest(module: str) -> str:
    """SHA-256 over the names and contents of `training_sources`."""
    return sha256_bytes(b"".join(path.name.encode() + path.read_bytes() for path in training_sources(module)))


def _path_of(module: str) -> Path | None:
    path = PACKAGE.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    """Dotted names, relative to the package, that a file may import; a name of an attribute leads to no file."""
    prefix = f"{PACKAGE.name}."
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith(prefix):
                relative = name.removeprefix(prefix)
                yield relative
                # Importing a module runs the packages that it lies in.
                parts = relative.split(".")
                yield from (".".join(parts[:depth]) for depth in range(1, len(parts)))
