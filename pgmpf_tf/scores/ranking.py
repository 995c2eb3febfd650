"""From the scores of a group's units to which of them stay."""

from __future__ import annotations

import math

import numpy as np

# n * rate may round to just below a whole number: 100 * 0.29 is 28.999999999999996.
_EPSILON = 1e-9


def kept_count(count: int, rate: float, round_to: int = 1) -> int:
    """How many of `count` units stay when the fraction `rate` is removed.

    Args:
        count: how many there are.
        rate: fraction to remove, in [0, 1): `floor(count * rate)` go.
        round_to: the number kept is raised to a multiple of this (or to `count`).

    Returns:
        A number in [1, count].
    """
    kept = count - math.floor(count * rate + _EPSILON)
    return min(count, math.ceil(kept / round_to) * round_to)


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
    return mask_without(scores, removed)


def mask_without(scores: np.ndarray, removed: int) -> np.ndarray:
    """Marks the units that stay when so many of the lowest scores go: `keep_mask`."""
    mask = np.ones(len(scores), np.float32)
    mask[np.argsort(scores, kind="stable")[:removed]] = 0.0
    return mask
