"""The language of the markers: one call, such as `difference(reference, shift, kv, setting=length16)`.

Arguments are names, texts in quotes, whole numbers and True or False. A name stands for itself.
"""

import ast
import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

Vocabulary = Mapping[str, Callable[..., str]]


def evaluate(expression: str, vocabulary: Vocabulary) -> str:
    """The text of an expression.

    Raises:
        ValueError: it is not one call, its word is unknown, or its arguments are wrong; one line.
    """
    try:
        call = ast.parse(expression, mode="eval").body
    except SyntaxError:
        call = None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"'{expression}' is not a call such as difference(reference, sort, kv)")
    word = call.func.id
    if word not in vocabulary:
        near = get_close_matches(word, vocabulary, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(sorted(vocabulary))}"
        raise ValueError(f"there is no word '{word}'{hint}")
    arguments = [_value(argument) for argument in call.args]
    named = {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
    try:
        inspect.signature(vocabulary[word]).bind(*arguments, **named)
    except TypeError as error:
        raise ValueError(f"'{expression}': {error}") from None
    return vocabulary[word](*arguments, **named)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int)):
        return node.value
    raise ValueError(f"'{ast.unparse(node)}' is not a name, a text in quotes or a whole number")
