"""Patterns that name layers, as in a shell: `*`, `?`, `[abc]`.

They match the name of a layer, its path (`backbone/block1/conv`), or the name or path
of a model or layer that it is in, so that `backbone` and `backbone/*` mean all of it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

V = TypeVar("V")

_SHOWN = 10


def path_names(path: str) -> tuple[str, ...]:
    """The names by which patterns find a layer: its own, and those of what it is in.

    Args:
        path: where the layer is in its model: `"backbone/block1/conv"`.

    Returns:
        The path, its beginnings, and the names it consists of.
    """
    parts = path.split("/")
    beginnings = ("/".join(parts[:end]) for end in range(len(parts), 0, -1))
    return tuple(dict.fromkeys([*beginnings, *parts]))


def matches(pattern: str, names: Iterable[str]) -> bool:
    """Whether a pattern matches one of several names."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def first_match(values: Mapping[str, V], names: Collection[str]) -> V | None:
    """The value of the first pattern that matches one of the names, if any does.

    Args:
        values: from pattern to value; their order counts.
        names: names of layers.
    """
    return next((v for pattern, v in values.items() if matches(pattern, names)), None)


def check_patterns(
    argument: str,
    patterns: Iterable[str],
    names: Collection[str],
    kind: str = "layer",
) -> None:
    """Raises ValueError if a pattern matches none of the names.

    Args:
        argument: the caller's argument that holds the patterns.
        patterns: the patterns.
        names: all names that there are.
        kind: what these are the names of, for the message.
    """
    for pattern in patterns:
        if not matches(pattern, names):
            some = sorted(names)
            more = " ..." if len(some) > _SHOWN else ""
            raise ValueError(
                f"`{argument}` must hold patterns that match a {kind}, such as "
                f"{', '.join(some[:_SHOWN])}{more}. "
                f"Received: the pattern {pattern!r}"
            )
