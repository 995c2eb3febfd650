"""From a `Budget` to a rate per group: the search for a network that meets it.

Every strategy puts all units of all groups into one queue; the network without the
first k of them gets smaller as k grows, so k is found by bisection.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import keras
import numpy as np

from pgmpf_tf._checks import received
from pgmpf_tf.budgets import removals
from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.budgets.costs import Cost, CostModel
from pgmpf_tf.budgets.rates import check_group_patterns
from pgmpf_tf.budgets.removals import Removal
from pgmpf_tf.budgets.runtimes import stopwatch
from pgmpf_tf.channels.units import Analysis
from pgmpf_tf.compaction import compact_as
from pgmpf_tf.profiling import profile
from pgmpf_tf.scores.ranking import kept_count

# Time does not fall evenly with the MACs: more than this is no use against noise.
_MEASUREMENTS = 8
_RUNTIME = "tflite"
_CLOSE = 0.01


def find_rates(
    model: keras.Model,
    analysis: Analysis,
    scores: Sequence[np.ndarray],
    budget: Budget,
    round_to: int = 1,
) -> tuple[float, ...]:
    """The rate of each group with which the network meets a budget.

    Args:
        model: the model to prune.
        analysis: its groups.
        scores: of the units of each group.
        budget: what to meet.
        round_to: groups keep a multiple of this.

    Returns:
        One rate per group of the analysis, in [0, 1).

    Raises:
        ValueError: if the budget cannot be met (the message says what can), if a
            pattern matches nothing, if arguments contradict each other, if the
            sensitivity lacks a group.

    Warns:
        UserWarning: there are layers of which nobody knows how much they multiply, so
            that MACs are those of the other layers.
    """
    for argument, patterns in budget.patterns.items():
        check_group_patterns(argument, patterns, analysis.groups)
    if budget.macs is not None:
        _warn_of_uncounted(model)
    candidates = _candidates(model, analysis, scores, budget, round_to)
    k = 0
    for resource, fraction in budget.fractions.items():
        if resource != "latency":
            k = max(k, _cheapest(candidates, resource, fraction))
    if budget.latency is not None:
        k = _fast_enough(model, candidates, k, budget.latency)
    return candidates.rates(k)


def _warn_of_uncounted(model: keras.Model) -> None:
    uncounted = profile(model).uncounted
    if uncounted:
        warnings.warn(
            "The budget holds for the MACs that can be counted, which leave out those "
            f"of: {', '.join(uncounted)}. Give a rule that counts them (see "
            "`pgmpf_tf.register_rule`), or a budget of `params` or `latency`.",
            stacklevel=2,
        )


def settle_rates(
    model: keras.Model,
    analysis: Analysis,
    scores: Sequence[np.ndarray],
    budget: Budget,
    rates: Sequence[float],
    round_to: int = 1,
) -> tuple[float, ...]:
    """Rates found earlier, for scores that have changed since.

    A channel of a sum is gone when all that is added has lost it. So where branches
    choose their filters each for itself, what is left depends on which ones go.

    Args:
        model: the model to prune.
        analysis: the groups that may lose units.
        scores: of the units of each group.
        budget: what to meet, without a latency.
        rates: one per group, as `find_rates` gave them.
        round_to: groups keep a multiple of this.

    Returns:
        One rate per group: the same ones if they meet the budget to a hundredth, or
        if these groups cannot.
    """
    candidates = _candidates(model, analysis, scores, budget, round_to)
    over = [
        candidates.left_at(rates, resource) - (1.0 - fraction)
        for resource, fraction in budget.fractions.items()
    ]
    reachable = all(
        candidates.left(candidates.last, resource) <= 1.0 - fraction
        for resource, fraction in budget.fractions.items()
    )
    if -_CLOSE <= max(over) <= 0.0 or not reachable:
        return tuple(rates)
    return candidates.rates(
        max(_cheapest(candidates, *item) for item in budget.fractions.items())
    )


def _candidates(
    model: keras.Model,
    analysis: Analysis,
    scores: Sequence[np.ndarray],
    budget: Budget,
    round_to: int,
) -> _Candidates:
    groups = analysis.groups
    fixed = removals.fixed_rates(groups, budget, round_to)
    start = [
        kept_count(len(group.units), fixed.get(place, 0.0), round_to)
        for place, group in enumerate(groups)
    ]
    queue = removals.queue(groups, scores, fixed, budget, round_to)
    return _Candidates(model, analysis, scores, start, queue)


class _Candidates:
    """The networks without the units of the first k removals.

    Args:
        model: the model to prune.
        analysis: its groups.
        scores: of the units of each group.
        start: how many units each group keeps before the first removal.
        queue: the removals.

    Attributes:
        last: the largest k.
    """

    def __init__(
        self,
        model: keras.Model,
        analysis: Analysis,
        scores: Sequence[np.ndarray],
        start: Sequence[int],
        queue: Sequence[Removal],
    ) -> None:
        self._model, self._analysis = model, analysis
        self._orders = [np.argsort(score, kind="stable") for score in scores]
        self._start, self._queue = start, queue
        self._costs = CostModel(model, analysis)
        self._known: dict[int, Cost] = {}
        self.last = len(queue)

    @functools.cached_property
    def _dense_macs(self) -> int:
        # Counted only if asked for: not every model's can be.
        return profile(self._model).macs

    def kept(self, k: int) -> list[int]:
        kept = list(self._start)
        for removal in self._queue[:k]:
            kept[removal.group] = removal.kept
        return kept

    def rates(self, k: int) -> tuple[float, ...]:
        return tuple(
            1 - kept / len(group.units)
            for kept, group in zip(self.kept(k), self._analysis.groups, strict=True)
        )

    def _removed(self, kept: Sequence[int]) -> np.ndarray:
        removed = np.zeros(self._analysis.unit_count, bool)
        for group, order, count in zip(
            self._analysis.groups, self._orders, kept, strict=True
        ):
            removed[group.units[order[: len(order) - count]]] = True
        return removed

    def left(self, k: int, resource: str) -> float:
        """What is left of the MACs or parameters, as a fraction."""
        if k not in self._known:
            self._known[k] = self._costs.cost(self._removed(self.kept(k)))
        return self._part(self._known[k], resource)

    def left_at(self, rates: Sequence[float], resource: str) -> float:
        """The same, at any rates."""
        kept = [
            kept_count(len(order), rate)
            for order, rate in zip(self._orders, rates, strict=True)
        ]
        return self._part(self._costs.cost(self._removed(kept)), resource)

    def _part(self, cost: Cost, resource: str) -> float:
        if resource == "params":
            return cost.params / self._model.count_params()
        return cost.macs / self._dense_macs

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
        return compact_as(self._model, self._costs.without(self._removed(self.kept(k))))


def _cheapest(candidates: _Candidates, resource: str, fraction: float) -> int:
    target = 1.0 - fraction
    if candidates.left(0, resource) <= target:
        return 0
    least = candidates.left(candidates.last, resource)
    if least > target:
        raise ValueError(
            f"The budget {resource}={fraction:g} cannot be met: with all that may go, "
            f"{1 - least:.1%} of the {resource} are taken away. Ask for less, lower "
            f"`min_keep`, or exclude fewer layers. {received(resource, fraction)}"
        )
    return candidates.first(0, candidates.last, resource, target)


def _fast_enough(
    model: keras.Model, candidates: _Candidates, start: int, fraction: float
) -> int:
    """The least pruned of the candidates measured that is fast enough."""
    target = 1.0 - fraction
    with stopwatch(_RUNTIME, model, _MEASUREMENTS) as watch:

        def time(k: int) -> float:
            macs = candidates.left(k, "macs")
            return watch.ratio(candidates.compacted(k), f"{macs:.0%} of the MACs")

        slow = (start, time(start) if start else 1.0)
        if slow[1] <= target:
            return start
        fast = (candidates.last, time(candidates.last))
        if fast[1] > target:
            raise ValueError(
                f"The budget latency={fraction:g} cannot be met: with all that may go, "
                f"{1 - fast[1]:.1%} of the time is taken away. Ask for less, lower "
                "`min_keep`, or exclude fewer layers. "
                f"{received('latency', fraction)}"
            )
        while watch.left and target - fast[1] > _CLOSE:
            # Time is nearly a straight line over the MACs, at least piece by piece.
            ends = [candidates.left(k, "macs") for k, _ in (fast, slow)]
            macs = np.interp(target - _CLOSE / 2, [fast[1], slow[1]], ends)
            k = candidates.first(slow[0], fast[0], "macs", macs)
            if k == fast[0]:
                break
            point = (k, time(k))
            if point[1] <= target:
                fast = point
            else:
                slow = point
        return fast[0]
