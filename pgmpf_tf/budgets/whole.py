"""What a whole network takes, told by its parts.

A part that is timed alone finds its weights in the caches; in a network that is larger
than these, weights come from memory each time. And what compaction inserts may tear
apart what a runtime would have run in one go. Both are proportional to something that
is known of any network: how many weights it has, and how much is inserted.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pgmpf_tf.budgets.segments import Segment

# How much a part that takes what it took alone is believed in, against measurements
# whose errors are some percent.
_BELIEF = 0.1


class Whole(NamedTuple):
    """What a whole network takes.

    Attributes:
        parts: milliseconds of its parts, one by one.
        milliseconds: its own.
        entries: of its weights.
        insertions: how many of its parts compaction has inserted.
    """

    parts: float
    milliseconds: float
    entries: float = 0.0
    insertions: float = 0.0

    @property
    def sums(self) -> tuple[float, float, float]:
        """What tells its time: the sums over its parts."""
        return self.parts, self.entries, self.insertions


def whole_of(
    segments: Sequence[Segment], parts: float, known: tuple[Whole, ...]
) -> Whole:
    """A network of which only the parts were measured.

    Args:
        segments: its parts.
        parts: what they take, in milliseconds.
        known: measurements of networks that are pruned from the same one; none: it
            takes what its parts take.
    """
    entries = sum(segment.entries for segment in segments)
    insertions = sum(not segment.steps for segment in segments)
    found = Whole(parts, 0.0, entries, insertions)
    return found._replace(milliseconds=float(np.dot(_weights(known), found.sums)))


@functools.lru_cache(maxsize=64)
def _weights(known: tuple[Whole, ...]) -> np.ndarray:
    """What a millisecond of parts, an entry and an insertion take: none less than 0.

    The least squares of relative errors. There are three numbers at most: all ways to
    have some of them at 0 are tried.
    """
    whole = np.zeros(3)
    whole[0] = 1.0
    if not known:
        return whole
    rows = np.array([network.sums for network in known])
    rows /= np.array([[network.milliseconds] for network in known])
    wanted = np.append(np.ones(len(rows)), _BELIEF)
    rows = np.vstack([rows, _BELIEF * whole])
    scale = np.abs(rows).max(axis=0)
    best, least = whole, np.inf
    for count in (1, 2, 3):
        for some in itertools.combinations(np.flatnonzero(scale), count):
            columns = list(some)
            found = np.linalg.lstsq(rows[:, columns] / scale[columns], wanted)[0]
            weights = np.zeros(3)
            weights[columns] = found / scale[columns]
            error = float(np.sum((rows @ weights - wanted) ** 2))
            if (weights >= 0).all() and error < least:
                best, least = weights, error
    return best
