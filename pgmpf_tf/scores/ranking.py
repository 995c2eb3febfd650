"""From the scores of a group's units to which of them stay."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pgmpf_tf._checks import check_choice, check_integer

# n * rate may round to just below a whole number: 100 * 0.29 is 28.999999999999996.
_EPSILON = 1e-9


_DIRECTIONS: dict[str, Callable[[float], int]] = {
    "up": math.ceil,
    "down": math.floor,
    "nearest": lambda number: math.floor(number + 0.5),
}


@dataclass(frozen=True)
class Rounding:
    """What number of filters a group may keep, for `wrap(round_to=...)`.

    A group keeps all of its filters or a multiple of a number, but never none.

    Example:
        >>> pgmpf_tf.wrap(model, 0.5, round_to=pgmpf_tf.Rounding(16, "nearest"))

    Attributes:
        multiple: the number kept is a multiple of this.
        direction: which multiple: `"up"` the next one above, `"down"` the next below,
            `"nearest"` the nearest (of two, the one above).

    Raises:
        TypeError: if a value is of a wrong type.
        ValueError: if a value is out of range, or unknown.
    """

    multiple: int = 1
    direction: str = "up"

    def __post_init__(self) -> None:
        multiple = check_integer("multiple", self.multiple, 1)
        object.__setattr__(self, "multiple", multiple)
        check_choice("direction", self.direction, _DIRECTIONS)

    def __call__(self, kept: int, count: int) -> int:
        """How many of `count` stay if `kept` were to stay."""
        multiples = _DIRECTIONS[self.direction](kept / self.multiple)
        return min(count, max(1, multiples) * self.multiple)


RoundTo: TypeAlias = int | Rounding
"""A multiple, to which numbers are raised, or how they are rounded."""


def check_round_to(round_to: object) -> RoundTo:
    """A way to round that was given.

    Raises:
        TypeError: if it is neither an int nor a `Rounding`.
        ValueError: if it is less than 1.
    """
    if isinstance(round_to, Rounding):
        return round_to
    return check_integer("round_to", round_to, 1)


def rounding(round_to: RoundTo) -> Rounding:
    """How numbers of units are rounded."""
    return round_to if isinstance(round_to, Rounding) else Rounding(round_to)


def kept_count(count: int, rate: float, round_to: RoundTo = 1) -> int:
    """How many of `count` units stay when the fraction `rate` is removed.

    Args:
        count: how many there are.
        rate: fraction to remove, in [0, 1): `floor(count * rate)` go. At 0 all stay.
        round_to: how the number kept is rounded; up, if it is an int.

    Returns:
        A number in [1, count].
    """
    gone = math.floor(count * rate + _EPSILON)
    return rounding(round_to)(count - gone, count) if gone else count


def keep_mask(scores: np.ndarray, rate: float, round_to: RoundTo = 1) -> np.ndarray:
    """Marks the units that stay: all but the lowest scores.

    Args:
        scores: shape `(units,)`. Of equal scores the one with the lower index goes.
        rate: fraction to remove, in [0, 1).
        round_to: see `kept_count`.

    Returns:
        Float32 array of ones (stays) and zeros (goes), shape `(units,)`.
    """
    removed = len(scores) - kept_count(len(scores), rate, round_to)
    return mask_without(scores, removed)


def mask_without(scores: np.ndarray, removed: int) -> np.ndarray:
    """Marks the units that stay when so many of the lowest scores go: `keep_mask`."""
    mask = np.ones(len(scores), np.float32)
    mask[np.argsort(scores, kind="stable")[:removed]] = 0.0
    return mask
