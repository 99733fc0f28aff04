"""The tasks. Every module of this package that has a list `DEFINITIONS` contributes the tasks in it: adding a file is
enough."""

import importlib
import pkgutil

from kvformer.tasks.base import TaskDefinition

FAMILIES = ("synthetic", "vision", "language")
"""The order in which tasks are listed."""


def _discover() -> dict[str, tuple[str, TaskDefinition]]:
    """By task: the module that defines it, and its definition."""
    found: dict[str, tuple[str, TaskDefinition]] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for definition in getattr(importlib.import_module(f"{__name__}.{module}"), "DEFINITIONS", ()):
            if definition.name in found:
                raise ValueError(f"two tasks are called '{definition.name}'")
            found[definition.name] = module, definition
    return dict(sorted(found.items(), key=lambda item: FAMILIES.index(item[1][1].family)))


_FOUND = _discover()
TASKS: dict[str, TaskDefinition] = {name: definition for name, (_, definition) in _FOUND.items()}
MODULES: dict[str, str] = {name: module for name, (module, _) in _FOUND.items()}
"""The module of this package that defines a task."""
