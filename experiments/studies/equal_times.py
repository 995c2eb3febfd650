"""Networks that are pruned in other ways and take as long as one that is given."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import keras

SLOWER, FASTER = 1.01, 0.97
"""By how much a network may be slower than the other, and what is near enough."""

_AIM = (SLOWER * FASTER) ** 0.5

TRIES = 5
"""Fractions that are tried until the times are equal."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A pruned network that has not been trained yet.

    Attributes:
        model: the small network.
        kept: how many filters each group keeps.
        asked: the fraction that its budget took away.
        ratio: its time by that of the network that it is held against.
    """

    model: keras.Model
    kept: tuple[int, ...]
    asked: float
    ratio: float = 1.0


def as_fast(
    pruned: Callable[[float], Candidate],
    ratio: Callable[[Candidate], float],
    fraction: float,
) -> Candidate:
    """The slowest of some networks that are as fast as another.

    Args:
        pruned: the network whose budget takes a fraction away.
        ratio: its measured time by that of the other.
        fraction: what is tried first.

    Raises:
        ValueError: none of those tried is fast enough.
    """
    low, high = 0.0, 1.0
    found: list[Candidate] = []
    asked = fraction
    for _ in range(TRIES):
        candidate = pruned(asked)
        found.append(dataclasses.replace(candidate, ratio=ratio(candidate)))
        measured = found[-1].ratio
        if FASTER <= measured <= SLOWER:
            break
        low, high = (asked, high) if measured > SLOWER else (low, asked)
        moved = _next(found)
        # On a stair the time goes another way than it went before.
        asked = moved if low < moved < high else (low + high) / 2
    fits = [candidate for candidate in found if candidate.ratio <= SLOWER]
    if not fits:
        raise ValueError(
            "`fraction` must be such that with more of it the network is fast enough. "
            f"Received: fraction={fraction}; tried were "
            f"{', '.join(f'{c.asked:.3f} ({c.ratio:.2f} of the time)' for c in found)}"
        )
    return max(fits, key=lambda candidate: candidate.ratio)


def _next(found: Sequence[Candidate]) -> float:
    """The fraction at which the time is met if it is a power of what is left."""
    last = found[-1]
    left, time = math.log(1 - last.asked), math.log(last.ratio)
    slope = 1.0
    if found[1:]:
        change = time - math.log(found[-2].ratio)
        slope = (left - math.log(1 - found[-2].asked)) / change if change else 0.0
    return 1 - math.exp(left + slope * (math.log(_AIM) - time))
