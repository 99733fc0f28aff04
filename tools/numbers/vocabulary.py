"""The words that a marker can use: the public functions of the modules below."""

import inspect

from tools.numbers import inline, scaling, simulated, speed, tables, verdict
from tools.numbers.expressions import Vocabulary

VOCABULARY: Vocabulary = {
    name: function
    for module in (inline, tables, speed, simulated, scaling, verdict)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_") and function.__annotations__["return"] is str
}
