"""What a module depends on in this package: its source files, read from import statements without importing anything,
and a digest of them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from kvformer.files import sha256_bytes

PACKAGE = Path(__file__).parent
CONFIGURATION = ("config.run", "config.loading", "config.study", "spec.sections", "spec.variants", "tasks")
"""Modules that only lead to a resolved run and to its variant's definition. A training run is given both, so that these
modules do not change a result by themselves."""


def source_files(*modules: str, without: tuple[str, ...] = ()) -> list[Path]:
    """Files of `modules` and of everything that they import from this package, directly or indirectly, sorted. Imports
    inside functions count.

    modules, without: dotted names relative to the package (`training.run`). The modules in `without` are left out, and
        their imports are not followed.
    """
    found: dict[str, Path] = {}
    pending = list(modules)
    while pending:
        module = pending.pop()
        path = _path_of(module)
        if path is not None and module not in found and module not in without:
            found[module] = path
            pending.extend(_read(path)[0])
    return sorted(found.values())


@cache
def digest(*modules: str, without: tuple[str, ...] = ()) -> str:
    """SHA-256 over the names and statements of `source_files`. Comments, docstrings and layout do not change it."""
    lines = (f"{path.relative_to(PACKAGE)} {_read(path)[1]}" for path in source_files(*modules, without=without))
    return sha256_bytes("\n".join(lines).encode())


def code_digest(module: str) -> str:
    """The digest of all that influences the training of the tasks that a module of `tasks/` defines."""
    return digest("training.run", f"tasks.{module}", without=CONFIGURATION)


def _path_of(module: str) -> Path | None:
    path = PACKAGE.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@cache
def _read(path: Path) -> tuple[tuple[str, ...], str]:
    """The modules that a file may import, and the digest of its statements."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return tuple(_imports(tree)), sha256_bytes(repr(_plain(tree)).encode())


def _plain(node: Any) -> Any:
    """A syntax tree as nested lists: without positions, without statements that are only a constant (docstrings), and
    without empty fields and contexts, which differ between versions of Python."""
    if isinstance(node, ast.AST):
        parts: list[Any] = [type(node).__name__]
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != [] and name != "ctx":
                parts += name, _plain(value)
        return parts
    if isinstance(node, list):
        return [
            _plain(item) for item in node if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
        ]
    return node


def _imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names, relative to the package, that a file may import; the name of an attribute leads to no file."""
    prefix = f"{PACKAGE.name}."
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith(prefix):
                relative = name.removeprefix(prefix)
                yield relative
                # Importing a module runs the packages that it is in.
                parts = relative.split(".")
                yield from (".".join(parts[:depth]) for depth in range(1, len(parts)))
