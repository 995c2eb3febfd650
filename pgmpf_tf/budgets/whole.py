"""What a whole network takes, told by its parts.

A part that is timed alone finds its weights in the caches. In a network whose weights
are more than a cache holds the rest comes from memory, each time. What compaction
inserts may tear apart what a runtime would have run in one go; and what it only moves
was made a moment ago, so that it takes less than alone where tensors are large. All are
proportional to something that is known of any network, but for what a runtime takes
between the parts, however narrow they are.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pgmpf_tf.budgets.segments import Segment

# How much it is believed in that a part takes what it took alone: as if a network had
# shown it whose error counts for this part of that of others.
_BELIEF = 0.2
# For insertions, which are moved and not computed, less.
_BELIEF_INSERTED = 0.1
# That nothing is taken between the parts, for a part of the narrowest network's time.
_BELIEF_BETWEEN = 0.3
# How many sizes of a cache are tried.
_CACHES = 41


class Whole(NamedTuple):
    """What a whole network takes.

    Attributes:
        parts: milliseconds of its parts, one by one.
        milliseconds: its own.
        entries: of its weights.
        insertions: how many of its parts compaction has inserted.
        inserted: milliseconds of these.
    """

    parts: float
    milliseconds: float
    entries: float = 0.0
    insertions: float = 0.0
    inserted: float = 0.0


def whole_of(
    segments: Sequence[Segment], times: Sequence[float], known: tuple[Whole, ...]
) -> Whole:
    """A network of which only the parts were measured.

    Args:
        segments: its parts.
        times: what each takes, in milliseconds.
        known: measurements of networks that are pruned from the same one; none: it
            takes what its parts take.
    """
    inserted = [t for t, s in zip(times, segments, strict=True) if not s.steps]
    entries = sum(segment.entries for segment in segments)
    found = Whole(sum(times), 0.0, entries, len(inserted), sum(inserted))
    return found._replace(milliseconds=_Costs.of(known).milliseconds(found))


class _Costs(NamedTuple):
    """What tells the time of a network.

    Attributes:
        parts: milliseconds per millisecond of the network's own parts.
        entry: milliseconds for an entry of a weight that the cache does not hold.
        insertion: milliseconds for each.
        inserted: milliseconds per millisecond of insertions.
        network: milliseconds, whatever is left of it.
        cached: how many entries the cache holds.
    """

    parts: float = 1.0
    entry: float = 0.0
    insertion: float = 0.0
    inserted: float = 1.0
    network: float = 0.0
    cached: float = 0.0

    def milliseconds(self, network: Whole) -> float:
        """The time of a network."""
        return float(np.dot(self[:-1], _sums(network, self.cached)))

    @classmethod
    @functools.lru_cache(maxsize=64)
    def of(cls, known: tuple[Whole, ...]) -> _Costs:
        """The costs, none below 0, that tell measurements best."""
        if not known:
            return cls()
        most = max(network.entries for network in known)
        sizes = np.linspace(0.0, most, _CACHES) if most else [0.0]
        fits = (_fit(known, float(cached)) for cached in sizes)
        _, costs = min(fits, key=lambda fit: fit[0])
        return costs


def _sums(network: Whole, cached: float) -> list[float]:
    own = network.parts - network.inserted
    missed = max(0.0, network.entries - cached)
    return [own, missed, network.insertions, network.inserted, 1.0]


def _fit(known: Sequence[Whole], cached: float) -> tuple[float, _Costs]:
    """The least squares of relative errors, none below 0: their sum, and the costs.

    There are five costs: all ways to have some of them at 0 are tried.
    """
    rows = np.array([_sums(network, cached) for network in known])
    rows /= np.array([[network.milliseconds] for network in known])
    least = min(network.milliseconds for network in known)
    between = _BELIEF_BETWEEN / least
    beliefs = np.diag([_BELIEF, 0.0, 0.0, _BELIEF_INSERTED, between])[[0, 3, 4]]
    rows = np.vstack([rows, beliefs])
    wanted = [*np.ones(len(known)), _BELIEF, _BELIEF_INSERTED, 0.0]
    scale = np.abs(rows).max(axis=0)
    fits = []
    if len(known) < len(scale):
        scale[-1] = 0.0  # so few do not tell it from parts that are slower
    for count in range(1, len(scale) + 1):
        for some in itertools.combinations(np.flatnonzero(scale), count):
            columns = list(some)
            costs = np.zeros(len(scale))
            scaled = rows[:, columns] / scale[columns]
            costs[columns] = np.linalg.lstsq(scaled, wanted)[0] / scale[columns]
            if (costs >= 0).all():
                error = float(np.sum((rows @ costs - wanted) ** 2))
                found = _Costs(*costs.tolist())._replace(cached=cached)
                fits.append((error, found))
    return min(fits)
