"""From a `Budget` to a rate per group: the search for a network that meets it.

Every strategy puts all units of all groups into one queue; the network without the
first k of them gets smaller as k grows, so k is found by bisection.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import keras
import numpy as np

from pgmpf_tf._checks import received
from pgmpf_tf.budgets import removals
from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.budgets.candidates import Candidates, Networks
from pgmpf_tf.budgets.rates import check_group_patterns
from pgmpf_tf.budgets.runtimes import stopwatch
from pgmpf_tf.channels.units import Analysis
from pgmpf_tf.profiling import profile
from pgmpf_tf.scores.ranking import RoundTo, kept_count

# Time does not fall evenly with the MACs: more than this is no use against noise.
_MEASUREMENTS = 8
_RUNTIME = "tflite"
_CLOSE = 0.01
# What a stair of most kernels has, and how many of them a group's saving is asked at.
_STAIR = 16
_EDGES = 8
# Kernels for few channels may be slower than those for some more.
_LOOKED_AT = 64
_WIDER = (1 / 16, 1 / 8, 1 / 4)
"""Parts of the queue that the narrowest network gets back, if it is too slow."""
# How often the knapsack is filled: most often the second time is as the first.
_TURNS = 3


def find_rates(
    model: keras.Model,
    analysis: Analysis,
    scores: Sequence[np.ndarray],
    budget: Budget,
    round_to: RoundTo = 1,
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
    networks = Networks(model, analysis, scores, budget.table)
    if budget.predictable:
        return _predicted(networks, analysis, scores, budget, round_to)
    assert budget.latency is not None  # nothing else has to be measured
    candidates = _candidates(
        networks, analysis, scores, budget, round_to, networks.whole
    )
    k = _cheap_enough(candidates, budget)
    return candidates.rates(_fast_enough(model, candidates, k, budget.latency))


def _predicted(
    networks: Networks,
    analysis: Analysis,
    scores: Sequence[np.ndarray],
    budget: Budget,
    round_to: RoundTo,
) -> tuple[float, ...]:
    """Rates that meet a budget of what can be predicted.

    What a group saves goes with what its neighbors keep. So the knapsack is filled
    again, by what each group saves beside the others as they were found; of all that
    was found, that counts by which the least is lost.
    """
    found: dict[tuple[int, ...], float] = {}
    around = networks.whole
    while len(found) < _TURNS:
        candidates = _candidates(networks, analysis, scores, budget, round_to, around)
        try:
            kept = _met(candidates, budget, _cheap_enough(candidates, budget))
        except ValueError:
            if not found:
                raise
            break
        if kept in found:
            break
        found[kept] = removals.harm(analysis.groups, budget, kept)
        around = kept
        if budget.strategy != "sensitivity":
            break
    least_lost = min(found, key=lambda kept: found[kept])
    return networks.rates(least_lost)


def _cheap_enough(candidates: Candidates, budget: Budget) -> int:
    """The least pruned of the candidates for which that can be predicted."""
    found = (
        _cheapest(candidates, resource, fraction)
        for resource, fraction in budget.fractions.items()
        if resource != "latency" or budget.predictable
    )
    return max(found, default=0)


def _met(candidates: Candidates, budget: Budget, k: int) -> tuple[int, ...]:
    """What groups keep to meet all of a budget, from a candidate that may not do yet.

    Time does not fall with every filter: what keeps branches apart may cost more than
    the filter did, and on a stair of a kernel filters cost nothing. So a candidate may
    be too slow, and one that is fast enough takes back what it gave away for nothing.
    """
    targets = {name: 1.0 - fraction for name, fraction in budget.fractions.items()}

    def fits(kept: Sequence[int]) -> bool:
        return all(
            candidates.left_of(kept, name) <= target for name, target in targets.items()
        )

    while not fits(candidates.kept(k)):
        if k == candidates.last:
            asked = ", ".join(f"{name}={1 - t:g}" for name, t in targets.items())
            raise ValueError(
                f"The budget {asked} cannot be met: no network that is small enough is "
                "fast enough, since kernels for few channels are slow. Ask for less, "
                f"or keep multiples of 8 with `round_to`. Received: {asked}"
            )
        k += 1
    if "latency" not in targets:
        return tuple(candidates.kept(k))
    return tuple(candidates.filled(k, fits))


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
    round_to: RoundTo = 1,
) -> tuple[float, ...]:
    """Rates found earlier, for scores that have changed since.

    A channel of a sum is gone when all that is added has lost it. So where branches
    choose their filters each for itself, what is left depends on which ones go.

    Args:
        model: the model to prune.
        analysis: the groups that may lose units.
        scores: of the units of each group.
        budget: what to meet; a latency must be predictable.
        rates: one per group, as `find_rates` gave them.
        round_to: groups keep a multiple of this.

    Returns:
        One rate per group: the same ones if they meet the budget to a hundredth, or
        if these groups cannot.
    """
    networks = Networks(model, analysis, scores, budget.table)
    candidates = _candidates(
        networks, analysis, scores, budget, round_to, networks.whole
    )
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
    return _predicted(networks, analysis, scores, budget, round_to)


def _candidates(
    networks: Networks,
    analysis: Analysis,
    scores: Sequence[np.ndarray],
    budget: Budget,
    round_to: RoundTo,
    around: Sequence[int],
) -> Candidates:
    groups = analysis.groups
    fixed = removals.fixed_rates(groups, budget, round_to)
    start = [
        kept_count(len(group.units), fixed.get(place, 0.0), round_to)
        for place, group in enumerate(groups)
    ]
    saving = _saving(networks, budget, around)
    queue = removals.queue(groups, scores, fixed, budget, round_to, saving)
    return Candidates(networks, start, queue)


def _saving(
    networks: Networks, budget: Budget, around: Sequence[int]
) -> removals.Saving:
    """What a group saves of what the budget asks for; of several costs, the sum.

    All others keep what they keep in `around`. Time that is not predicted is taken to
    go with the MACs.
    """
    resources = {
        "macs" if name == "latency" and not budget.predictable else name
        for name in budget.fractions
    }

    def left(place: int, kept: int) -> float:
        counts = [*around[:place], kept, *around[place + 1 :]]
        return sum(networks.left(counts, resource) for resource in resources)

    def saved(place: int, kept: int) -> float:
        return left(place, networks.whole[place]) - left(place, kept)

    def saving(place: int, steps: Sequence[int]) -> Sequence[float]:
        if "latency" in resources:
            known = _edges(networks.whole[place], steps)
            values = [saved(place, kept) for kept in known]
            curve: np.ndarray = np.interp(steps, known, values)
        else:
            # MACs and parameters are polynomials of the second degree in what a group
            # keeps, which three points tell.
            known = sorted({networks.whole[place], steps[len(steps) // 2], steps[-1]})
            values = [saved(place, kept) for kept in known]
            curve = np.polyval(np.polyfit(known, values, len(known) - 1), steps)
        return [float(value) for value in np.maximum.accumulate(curve)]

    return saving


def _edges(whole: int, steps: Sequence[int]) -> list[int]:
    """Widths at the edges of a group's stairs: the knapsack goes by these alone."""
    edges = [kept for kept in steps if kept % _STAIR == 0]
    thinned = edges[:: max(1, len(edges) // _EDGES)]
    return sorted({whole, *thinned, steps[-1]})


def _cheapest(candidates: Candidates, resource: str, fraction: float) -> int:
    target = 1.0 - fraction
    if candidates.left(0, resource) <= target:
        return 0
    smallest = candidates.last
    least = candidates.left(smallest, resource)
    if least > target and resource == "latency":
        smallest = candidates.fastest(_LOOKED_AT)
        least = candidates.left(smallest, resource)
    if least > target:
        raise ValueError(
            f"The budget {resource}={fraction:g} cannot be met: with all that may go, "
            f"{1 - least:.1%} of the {resource} are taken away. Ask for less, lower "
            f"`min_keep`, or exclude fewer layers. {received(resource, fraction)}"
        )
    return candidates.first(0, smallest, resource, target)


def _fast_enough(
    model: keras.Model, candidates: Candidates, start: int, fraction: float
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
        for share in _WIDER:
            if fast[1] <= target:
                break
            k = candidates.last - int(share * (candidates.last - start))
            fast = min(fast, (k, time(k)), key=lambda point: point[1])
        if fast[1] > target:
            raise ValueError(
                f"The budget latency={fraction:g} cannot be met: of the networks that "
                f"were timed, the fastest takes {1 - fast[1]:.1%} of the time away. "
                "Ask for less, lower `min_keep`, or exclude fewer layers. "
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
