"""The tasks. Every module of this package that has a list `DEFINITIONS` contributes the tasks in it: adding a file is
enough."""

import importlib
import pkgutil

from kvformer.tasks.base import TaskDefinition

FAMILIES = ("synthetic", "vision", "language")
"""The order in which tasks are listed."""


def _discover() -> dict[str, TaskDefinition]:
    found: dict[str, TaskDefinition] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for definition in getattr(importlib.import_module(f"{__name__}.{module}"), "DEFINITIONS", ()):
            if definition.name in found:
                raise ValueError(f"two tasks are called '{definition.name}'")
            found[definition.name] = definition
    return dict(sorted(found.items(), key=lambda item: FAMILIES.index(item[1].family)))


TASKS: dict[str, TaskDefinition] = _discover()
