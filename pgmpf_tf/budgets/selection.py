"""From scores and a rate to masks: which units stay."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping

import numpy as np

from pgmpf_tf.channels.units import Group

# n * rate may round to just below a whole number: 100 * 0.29 is 28.999999999999996.
_EPSILON = 1e-9


def kept_count(units: int, rate: float, round_to: int = 1) -> int:
    """How many of `units` stay when the fraction `rate` is removed.

    Args:
        units: how many there are.
        rate: fraction to remove, in [0, 1): `floor(units * rate)` go.
        round_to: the number kept is raised to a multiple of this (or to `units`).

    Returns:
        A number in [1, units].
    """
    kept = units - math.floor(units * rate + _EPSILON)
    return min(units, math.ceil(kept / round_to) * round_to)


def keep_mask(scores: np.ndarray, rate: float, round_to: int = 1) -> np.ndarray:
    """Marks the units that stay: all but the lowest scores.

    Args:
        scores: shape `(units,)`. Of equal scores the one with the lower index goes.
        rate: fraction to remove, in [0, 1).
        round_to: see `kept_count`.

    Returns:
        Float32 array of ones (stays) and zeros (goes), shape `(units,)`.
    """
    removed = len(scores) - kept_count(len(scores), rate, round_to)
    mask = np.ones(len(scores), np.float32)
    mask[np.argsort(scores, kind="stable")[:removed]] = 0.0
    return mask


def group_rates(
    groups: tuple[Group, ...], rate: float | Mapping[str, float]
) -> tuple[float, ...]:
    """The target rate of each group.

    Args:
        groups: the groups that the channel analysis found.
        rate: one rate for all, or a mapping from layer-name pattern (as in a shell:
            `*`, `?`, `[abc]`) to rate. A group takes the rate of the first pattern that
            matches one of its layers, and 0 if none does.

    Returns:
        One rate per group.

    Raises:
        ValueError: if a rate is outside [0, 1), or a pattern matches no layer of any
            group.
        TypeError: if `rate` is neither a number nor a mapping to numbers.
    """
    if not isinstance(rate, Mapping):
        return (_checked("rate", rate),) * len(groups)
    for pattern, value in rate.items():
        _checked(f"rate[{pattern!r}]", value)
    check_patterns(groups, "rate", rate)
    return tuple(rate_of(group, rate) or 0.0 for group in groups)


def rate_of(group: Group, rates: Mapping[str, float]) -> float | None:
    """The rate of the first pattern that matches a layer of the group, if any."""
    found = (float(rates[p]) for p in rates if _matches(group, p))
    return next(found, None)


def check_patterns(
    groups: Iterable[Group], argument: str, patterns: Iterable[str]
) -> None:
    """Raises ValueError if a pattern matches no layer of any group."""
    for pattern in patterns:
        if not any(_matches(group, pattern) for group in groups):
            layers = sorted({name for group in groups for name in group.layers})
            raise ValueError(
                f"The pattern {pattern!r} in `{argument}` matches no layer with "
                f"filters to prune. Such layers are: {', '.join(layers)}"
            )


def _matches(group: Group, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in group.layers)


def _checked(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"`{name}` must be the fraction of filters to remove, a number. "
            f"Received: {name}={value!r}"
        )
    if not 0.0 <= value < 1.0:
        raise ValueError(
            f"`{name}` must lie in [0, 1): the fraction of filters to remove. "
            f"Received: {name}={value}"
        )
    return float(value)
