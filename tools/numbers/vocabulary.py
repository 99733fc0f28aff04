"""The words that a marker can use: the public functions of `inline`, `tables`, `speed`, `simulated` and `verdict`."""

import inspect

from tools.numbers import inline, simulated, speed, tables, verdict
from tools.numbers.expressions import Vocabulary

VOCABULARY: Vocabulary = {
    name: function
    for module in (inline, tables, speed, simulated, verdict)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_") and function.__annotations__["return"] is str
}
