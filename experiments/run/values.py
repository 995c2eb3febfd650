"""Values as they are written on a command line."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from pgmpf_tf import schedules


def parse(value: str) -> Any:
    """The number, the truth value or the schedule that a text means, or the text."""
    forms: dict[str, Callable[..., Any]] = {
        **schedules.FORMS,
        "every_epochs": schedules.every_epochs,
    }
    try:
        node = ast.parse(value, mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            return ast.literal_eval(value)
        form = forms[node.func.id]
        args = [ast.literal_eval(part) for part in node.args]
        named = {str(part.arg): ast.literal_eval(part.value) for part in node.keywords}
    except (KeyError, SyntaxError, ValueError):
        return value
    return form(*args, **named)
