"""Checks of arguments, with one style of message.

Every message names the argument, what is allowed, and what was received. NumPy's
scalars are numbers like Python's own; what the checks return is Python's, so that
JSON can hold it.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SEED_LIMIT = 2**31
"""Seeds are held in int32 variables."""


def received(name: str, value: Any) -> str:
    """The end of every message: what the caller passed."""
    return f"Received: {name}={value!r}"


def check_type(
    name: str, value: Any, kind: type | tuple[type, ...], allowed: str
) -> None:
    """Raises TypeError if `value` is not of a type.

    Args:
        name: the caller's argument.
        value: what was passed for it.
        kind: the type or types that are allowed.
        allowed: these in words, to follow "must be".
    """
    if not isinstance(value, kind):
        raise TypeError(f"`{name}` must be {allowed}. {received(name, value)}")


def check_bool(name: str, value: Any) -> bool:
    """A bool, or TypeError."""
    check_type(name, value, (bool, np.bool_), "a bool")
    return bool(value)


def check_integer(name: str, value: Any, least: int, below: int | None = None) -> int:
    """An int of at least `least` and, if that is given, less than `below`.

    Raises:
        TypeError: if it is not a whole number (a bool is none).
        ValueError: if it is out of range.
    """
    allowed = f"an int of at least {least}"
    if below is not None:
        allowed += f" and less than {below}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be {allowed}. {received(name, value)}")
    whole = int(value)
    if whole < least or (below is not None and whole >= below):
        raise ValueError(f"`{name}` must be {allowed}. {received(name, value)}")
    return whole


def check_seed(name: str, value: Any) -> int:
    """A seed of random draws, in [0, 2^31)."""
    return check_integer(name, value, 0, SEED_LIMIT)


def check_number(
    name: str,
    value: Any,
    interval: str = "(-inf, inf)",
    meaning: str = "a number",
) -> float:
    """A number in an interval.

    Args:
        name: the caller's argument.
        value: what was passed for it.
        interval: the interval as it is written, such as `"[0, 1)"`.
        meaning: what the number is, to follow "must be".

    Returns:
        The number as a float.

    Raises:
        TypeError: if it is not a real number (a bool is none).
        ValueError: if it is out of range, or NaN.
    """
    everywhere = interval == "(-inf, inf)"
    allowed = meaning if everywhere else f"{meaning} in {interval}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be {allowed}. {received(name, value)}")
    low, high = (float(end) for end in interval[1:-1].split(","))
    number = float(value)
    inside = low < number or (interval[0] == "[" and number == low)
    inside &= number < high or (interval[-1] == "]" and number == high)
    if math.isnan(number) or not inside:
        raise ValueError(f"`{name}` must be {allowed}. {received(name, value)}")
    return number


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of several strings.

    Raises:
        TypeError: if it is no string.
        ValueError: if it is none of them.
    """
    allowed = f"one of {', '.join(map(repr, choices))}"
    check_type(name, value, str, allowed)
    if value not in tuple(choices):
        raise ValueError(f"`{name}` must be {allowed}. {received(name, value)}")
    return value


def check_path(name: str, value: Any) -> Path:
    """A path of the file system, or TypeError."""
    check_type(name, value, (str, os.PathLike), "a path, a str or an os.PathLike")
    return Path(value)


def check_strings(name: str, value: Any, what: str = "strings") -> tuple[str, ...]:
    """A string or a sequence of strings, as a tuple.

    Args:
        name: the caller's argument.
        value: what was passed for it.
        what: what the strings are, such as "layer-name patterns".

    Raises:
        TypeError: if it is neither.
    """
    if isinstance(value, str):
        return (value,)
    known = isinstance(value, (Sequence, set, frozenset)) and not isinstance(
        value, bytes
    )
    if not known or not all(isinstance(entry, str) for entry in value):
        raise TypeError(
            f"`{name}` must be a string or a sequence of strings ({what}). "
            f"{received(name, value)}"
        )
    return tuple(value)


def check_sequence(name: str, value: Any, what: str) -> list[Any]:
    """A sequence as a list, or TypeError.

    Args:
        name: the caller's argument.
        value: what was passed for it.
        what: what it is a sequence of.
    """
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(
            f"`{name}` must be a sequence of {what}. {received(name, value)}"
        )
    return list(value)


def check_callable(name: str, value: Any, allowed: str) -> None:
    """Raises TypeError if `value` cannot be called, or is a class.

    Args:
        name: the caller's argument.
        value: what was passed for it.
        allowed: in words, to follow "must be".
    """
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"`{name}` must be {allowed}. {received(name, value)}")


def check_mapping(name: str, value: Any, what: str) -> Mapping[str, Any]:
    """A mapping whose keys are strings, and that is not empty.

    Args:
        name: the caller's argument.
        value: what was passed for it.
        what: what it maps, to follow "must be a mapping".

    Raises:
        TypeError: if it is no mapping, or a key is no string.
        ValueError: if it is empty.
    """
    check_type(name, value, Mapping, f"a mapping {what}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(
                f"`{name}` must be a mapping {what}; its keys are strings. "
                f"{received(name, value)}"
            )
    if not value:
        raise ValueError(
            f"`{name}` must be a mapping {what} with one entry at least. "
            f"{received(name, value)}"
        )
    return value
