"""From a `Budget` to a rate per group: the search for a network that meets it.

Every strategy puts all units of all groups into one queue; the network without the
first k of them gets smaller as k grows, so k is found by bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from pgmpf_tf.budgets import selection
from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.budgets.costs import Cost, CostModel
from pgmpf_tf.channels.units import Analysis, Group
from pgmpf_tf.compaction import compact_as
from pgmpf_tf.profiling import profile

# Time does not fall evenly with the MACs: more than this is no use against noise.
_MEASUREMENTS = 8
_CLOSE = 0.01


@dataclass(frozen=True)
class Move:
    """A step in the queue: a group loses its next units.

    Attributes:
        group: the group's number.
        kept: how many units it has left then.
        fraction: how much of it is gone then.
    """

    group: int
    kept: int
    fraction: float


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
            sensitivity lacks a group, or if MACs cannot be counted.
    """
    for argument, patterns in budget.patterns.items():
        selection.check_patterns(analysis.groups, argument, patterns)
    candidates = _candidates(model, analysis, scores, budget, round_to)
    k = 0
    for resource in ("macs", "params"):
        if getattr(budget, resource) is not None:
            k = max(k, _cheapest(candidates, resource, getattr(budget, resource)))
    if budget.latency is not None:
        k = _fast_enough(model, candidates, k, budget.latency)
    return candidates.rates(k)


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
    fixed = _fixed_rates(analysis.groups, budget, round_to)
    queue = _queue(analysis.groups, scores, fixed, budget, round_to)
    return _Candidates(model, analysis, scores, fixed, queue, budget, round_to)


def _fixed_rates(
    groups: Sequence[Group], budget: Budget, round_to: int
) -> dict[int, float]:
    """The rates that the budget fixes, by the group's number."""
    fixed = {}
    for number, group in enumerate(groups):
        rate = selection.rate_of(group, budget.rates)
        if rate is None:
            continue
        units = len(group.units)
        least = budget.kept_at_least(group.layers, units)
        if selection.kept_count(units, rate, round_to) < least:
            raise ValueError(
                f"`rates` and `min_keep` contradict each other: at rate {rate} the "
                f"group {group.name!r} keeps "
                f"{selection.kept_count(units, rate, round_to)} of {units} filters, "
                f"and `min_keep` wants {least}."
            )
        fixed[number] = rate
    return fixed


def _queue(
    groups: Sequence[Group],
    scores: Sequence[np.ndarray],
    fixed: dict[int, float],
    budget: Budget,
    round_to: int,
) -> list[Move]:
    """All moves, the first to be made first."""
    measured = _measured(groups, budget) if budget.strategy == "sensitivity" else {}
    keyed = []
    for number, group in enumerate(groups):
        units = len(group.units)
        if number in fixed:
            continue
        least = budget.kept_at_least(group.layers, units)
        ordered = np.sort(scores[number])
        mean = max(float(ordered.mean()), np.finfo(float).tiny)
        for kept in range(units - 1, least - 1, -1):
            if kept % round_to:
                continue
            fraction = 1 - kept / units
            if budget.strategy == "uniform":
                key = fraction
            elif budget.strategy == "global":
                key = ordered[units - kept - 1] / mean
            else:
                key = measured[group.name](fraction)
            keyed.append((key, fraction, number, kept))
    return [Move(number, kept, f) for _, f, number, kept in sorted(keyed)]


def _measured(
    groups: Sequence[Group], budget: Budget
) -> dict[str, Callable[[float], float]]:
    """How much worse the model got, by group and the fraction that was gone."""
    table = budget.sensitivity
    rows = dict(zip(table.groups, table.drop, strict=True))
    missing = [group.name for group in groups if group.name not in rows]
    if missing:
        raise ValueError(
            f"`sensitivity` has not measured the groups {missing}. Measure this model "
            "with the same `coupling` and `exclude`."
        )
    # A network that is lost altogether, infinitely worse, is worse than any other.
    finite = [drop for row in rows.values() for drop in row if np.isfinite(drop)]
    worst = 1.0 + 2.0 * max(map(abs, finite), default=0.0)

    def curve(drop: np.ndarray) -> Callable[[float], float]:
        # More pruning is not less harm: what looks so is noise.
        ys = np.maximum.accumulate(np.minimum([0.0, *drop], worst))
        xs = [0.0, *table.rates]
        # What was not measured goes last.
        return lambda x: float(np.interp(x, xs, ys)) if x <= xs[-1] else worst + x

    return {name: curve(drop) for name, drop in rows.items()}


class _Candidates:
    """The networks without the first k moves' units.

    Attributes:
        last: the largest k.
    """

    def __init__(self, model, analysis, scores, fixed, queue, budget, round_to) -> None:
        self._model, self._analysis = model, analysis
        self._orders = [np.argsort(score, kind="stable") for score in scores]
        self._start = [
            selection.kept_count(len(group.units), fixed.get(number, 0.0), round_to)
            for number, group in enumerate(analysis.groups)
        ]
        self._queue = queue
        self._costs = CostModel(model, analysis)
        self._dense = {"params": model.count_params()}
        if budget.macs or budget.latency:
            self._dense["macs"] = profile(model).macs
        self._told: dict[int, Cost] = {}
        self.last = len(queue)

    def kept(self, k: int) -> list[int]:
        kept = list(self._start)
        for move in self._queue[:k]:
            kept[move.group] = move.kept
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
        if k not in self._told:
            self._told[k] = self._costs.cost(self._removed(self.kept(k)))
        return self._part(self._told[k], resource)

    def left_at(self, rates: Sequence[float], resource: str) -> float:
        """The same, at any rates."""
        kept = [
            selection.kept_count(len(order), rate)
            for order, rate in zip(self._orders, rates, strict=True)
        ]
        return self._part(self._costs.cost(self._removed(kept)), resource)

    def _part(self, cost: Cost, resource: str) -> float:
        return getattr(cost, resource) / self._dense[resource]

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
            "`min_keep`, or exclude fewer layers."
        )
    return candidates.first(0, candidates.last, resource, target)


def _fast_enough(
    model: keras.Model, candidates: _Candidates, start: int, fraction: float
) -> int:
    """The least pruned of the candidates measured that is fast enough."""
    from pgmpf_tf.exporting.timing import Stopwatch  # imports TensorFlow

    target = 1.0 - fraction
    with Stopwatch(model, _MEASUREMENTS) as stopwatch:

        def time(k: int) -> float:
            macs = candidates.left(k, "macs")
            return stopwatch.ratio(candidates.compacted(k), f"{macs:.0%} of the MACs")

        slow = (start, time(start) if start else 1.0)
        if slow[1] <= target:
            return start
        fast = (candidates.last, time(candidates.last))
        if fast[1] > target:
            raise ValueError(
                f"The budget latency={fraction:g} cannot be met: with all that may go, "
                f"{1 - fast[1]:.1%} of the time is taken away. Ask for less, lower "
                "`min_keep`, or exclude fewer layers."
            )
        while stopwatch.left and target - fast[1] > _CLOSE:
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
