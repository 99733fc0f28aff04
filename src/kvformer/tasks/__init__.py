"""The tasks. Every module of this package that has a list `DEFINITIONS` contributes the tasks in it: adding a file is enough."""

import importlib
import pkgutil

from kvformer.tasks.base import TaskDefinition


def _discover() -> dict[str, TaskDefinition]:
    found: dict[str, TaskDefinition] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for definition in getattr(importlib.import_module(f"{__name__}.{module}"), "DEFINITIONS", ()):
            if definition.name in found:
                raise ValueError(f"two tasks are called '{definition.name}'")
            found[definition.name] = definition
    return found


TASKS: dict[str, TaskDefinition] = _discover()
