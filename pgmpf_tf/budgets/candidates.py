"""The networks that a search for a budget looks at, and what is left of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np

from pgmpf_tf.budgets.costs import Cost, CostModel
from pgmpf_tf.budgets.latency import LatencyTable
from pgmpf_tf.budgets.removals import Removal
from pgmpf_tf.budgets.times import STEPS
from pgmpf_tf.channels.units import Analysis
from pgmpf_tf.compaction import compact_as
from pgmpf_tf.profiling import profile
from pgmpf_tf.scores.ranking import kept_count


class Networks:
    """What is left of a network when its groups keep so many units, the highest.

    Args:
        model: the model to prune.
        analysis: its groups.
        scores: of the units of each group.
        table: predicts times, if it is given.

    Attributes:
        whole: how many units each group has.
    """

    def __init__(
        self,
        model: keras.Model,
        analysis: Analysis,
        scores: Sequence[np.ndarray],
        table: LatencyTable | None = None,
    ) -> None:
        self._model, self._analysis, self._table = model, analysis, table
        self._orders = [np.argsort(score, kind="stable") for score in scores]
        self._costs = CostModel(model, analysis)
        self._known: dict[tuple[int, ...], Cost] = {}
        self._times: dict[tuple[int, ...], float] = {}
        self.whole = tuple(len(group.units) for group in analysis.groups)

    @functools.cached_property
    def _dense_macs(self) -> int:
        # Counted only if asked for: not every model's can be.
        return profile(self._model).macs

    def _removed(self, kept: Sequence[int]) -> np.ndarray:
        removed = np.zeros(self._analysis.unit_count, bool)
        for group, order, count in zip(
            self._analysis.groups, self._orders, kept, strict=True
        ):
            removed[group.units[order[: len(order) - count]]] = True
        return removed

    def left(self, kept: Sequence[int], resource: str) -> float:
        """What is left of the MACs, the parameters or the time, as a fraction."""
        key = tuple(kept)
        if resource == "latency":
            return self._milliseconds(key) / self._milliseconds(self.whole)
        if key not in self._known:
            self._known[key] = self._costs.cost(self._removed(kept))
        cost = self._known[key]
        if resource == "params":
            return cost.params / self._model.count_params()
        return cost.macs / self._dense_macs

    def _milliseconds(self, kept: tuple[int, ...]) -> float:
        assert self._table is not None  # asked for predictable budgets only
        if kept not in self._times:
            segments = self._costs.segments(self._removed(kept))
            self._times[kept] = self._table.milliseconds(
                segments, self._costs.parts.network
            )
        return self._times[kept]

    def rates(self, kept: Sequence[int]) -> tuple[float, ...]:
        """What part of each group is gone."""
        pairs = zip(kept, self.whole, strict=True)
        return tuple(1 - count / whole for count, whole in pairs)

    def compacted(self, kept: Sequence[int]) -> keras.Model:
        """The network itself."""
        return compact_as(self._model, self._costs.without(self._removed(kept)))


class Candidates:
    """The networks without the units of the first k removals.

    Args:
        networks: by what each group keeps.
        start: how many units each group keeps before the first removal.
        queue: the removals.

    Attributes:
        last: the largest k.
    """

    def __init__(
        self, networks: Networks, start: Sequence[int], queue: Sequence[Removal]
    ) -> None:
        self._networks, self._start, self._queue = networks, start, queue
        self.last = len(queue)

    def kept(self, k: int) -> list[int]:
        """How many units each group keeps."""
        kept = list(self._start)
        for removal in self._queue[:k]:
            kept[removal.group] = removal.kept
        return kept

    def filled(self, k: int, fits: Callable[[Sequence[int]], bool]) -> list[int]:
        """What is kept when groups have taken units back for which there is room.

        Args:
            k: a candidate that fits.
            fits: whether a network that keeps so many units is small enough.

        Returns:
            How many units each group keeps. The groups that lost theirs last, which are
            worth most, choose first.
        """
        kept = self.kept(k)
        steps: dict[int, list[int]] = {}
        for removal in reversed(self._queue[:k]):
            steps.setdefault(removal.group, []).append(removal.kept)
        for place, ascending in steps.items():
            ascending.append(self._start[place])

        def take(place: int, width: int) -> bool:
            wider = [*kept[:place], width, *kept[place + 1 :]]
            if not fits(wider):
                return False
            kept[place] = width
            return True

        # Whole tiles first: for 17 filters kernels may take longer than for 32, and
        # step by step nobody would get from there to here.
        def widen(place: int) -> bool:
            edges = {(kept[place] // tile + 1) * tile for tile in STEPS if tile > 1}
            found = sorted(edges.intersection(steps[place]), reverse=True)
            return any(take(place, edge) for edge in found)

        # What one group gains may be what another needs.
        while sum(widen(place) for place in steps):
            pass
        for place, ascending in steps.items():
            wider = [step for step in ascending if step > kept[place]]
            low, high, width = 0, len(wider), 1  # most take nothing back, or few
            while low < high and take(place, wider[min(low + width, high) - 1]):
                low, width = min(low + width, high), 2 * width
            high = min(high, low + width - 1)
            while low < high:
                middle = (low + high + 1) // 2
                if take(place, wider[middle - 1]):
                    low = middle
                else:
                    high = middle - 1
        return kept

    def rates(self, k: int) -> tuple[float, ...]:
        """What part of each group is gone."""
        return self._networks.rates(self.kept(k))

    def left(self, k: int, resource: str) -> float:
        """What is left of the MACs, the parameters or the time, as a fraction."""
        return self.left_of(self.kept(k), resource)

    def left_of(self, kept: Sequence[int], resource: str) -> float:
        """The same, by how many units each group keeps."""
        return self._networks.left(kept, resource)

    def left_at(self, rates: Sequence[float], resource: str) -> float:
        """The same, at any rates."""
        pairs = zip(self._networks.whole, rates, strict=True)
        return self.left_of([kept_count(w, rate) for w, rate in pairs], resource)

    def fastest(self, count: int) -> int:
        """The k of the least predicted time, of so many at equal distances."""
        places = np.unique(np.linspace(0, self.last, count).round().astype(int))
        return min(map(int, places), key=lambda k: self.left(k, "latency"))

    def first(self, low: int, high: int, resource: str, target: float) -> int:
        """The lowest k in (low, high] with no more left than that; `high` has."""
        while high - low > 1:
            middle = (low + high) // 2
            if self.left(middle, resource) <= target:
                high = middle
            else:
                low = middle
        return high

    def compacted(self, k: int) -> keras.Model:
        """The network itself."""
        return self._networks.compacted(self.kept(k))
