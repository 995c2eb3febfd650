"""In which order units go: every strategy of a budget is a queue of removals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pgmpf_tf._patterns import first_match
from pgmpf_tf.budgets.budget import Budget, Drops
from pgmpf_tf.budgets.rates import names_of
from pgmpf_tf.channels.units import Group
from pgmpf_tf.scores.ranking import RoundTo, kept_count, rounding


@dataclass(frozen=True)
class Removal:
    """A step in the queue: a group loses its next units.

    Attributes:
        group: the place of the group among all.
        kept: how many units it has left then.
    """

    group: int
    kept: int


def fixed_rates(
    groups: Sequence[Group], budget: Budget, round_to: RoundTo
) -> dict[int, float]:
    """The rates that the budget fixes, by the place of the group.

    Raises:
        ValueError: if a fixed rate leaves fewer units than `min_keep` asks for.
    """
    fixed = {}
    for place, group in enumerate(groups):
        # A budget is met by what can go now, and not by what may be trained later.
        rate = 0.0 if group.frozen else first_match(budget.rates, names_of(group))
        if rate is None:
            continue
        count = len(group.units)
        least = budget.kept_at_least(names_of(group), count)
        kept = kept_count(count, rate, round_to)
        if kept < least:
            raise ValueError(
                f"`rates` and `min_keep` contradict each other: at rate {rate} the "
                f"group {group.name!r} keeps {kept} of {count} filters, and `min_keep` "
                f"wants {least}. Received: rates={dict(budget.rates)!r}, "
                f"min_keep={budget.min_keep!r}"
            )
        fixed[place] = rate
    return fixed


Saving = Callable[[int, Sequence[int]], Sequence[float]]
"""From the place of a group and numbers of units to what keeping so many saves, each.

All other groups keep what they keep.
"""


def queue(
    groups: Sequence[Group],
    scores: Sequence[np.ndarray],
    fixed: Mapping[int, float],
    budget: Budget,
    round_to: RoundTo,
    saving: Saving,
) -> list[Removal]:
    """All removals, the first to be made first.

    Args:
        groups: the groups that may lose units.
        scores: of the units of each group.
        fixed: groups with a rate of their own, by place: they are in no removal.
        budget: its strategy and `min_keep` count.
        round_to: groups keep a multiple of this.
        saving: asked by the strategy `"sensitivity"` only.

    Raises:
        ValueError: if the budget's sensitivity has not measured a group.
    """
    keys = _STRATEGIES[budget.strategy](groups, scores, budget, saving)
    keyed = []
    for place, group in enumerate(groups):
        count = len(group.units)
        if place in fixed:
            continue
        least = budget.kept_at_least(names_of(group), count)
        multiple = rounding(round_to).multiple
        steps = [k for k in range(count - 1, least - 1, -1) if k % multiple == 0]
        if not steps:
            continue
        keyed += [
            (key, 1 - kept / count, place, kept)
            for key, kept in zip(keys(place, steps), steps, strict=True)
        ]
    return [Removal(place, kept) for _, _, place, kept in sorted(keyed)]


Keys = Callable[[int, Sequence[int]], Sequence[float]]
"""From the place of a group and the numbers of units that it may keep, falling, to how
late it comes to each of them."""


def _uniform(
    groups: Sequence[Group],
    scores: Sequence[np.ndarray],
    budget: Budget,
    saving: Saving,
) -> Keys:
    return lambda place, steps: [1 - kept / len(scores[place]) for kept in steps]


def _global(
    groups: Sequence[Group],
    scores: Sequence[np.ndarray],
    budget: Budget,
    saving: Saving,
) -> Keys:
    tiny = np.finfo(float).tiny
    ordered = [np.sort(s) / max(float(np.mean(s)), tiny) for s in scores]
    return lambda place, steps: [
        float(ordered[place][len(ordered[place]) - kept - 1]) for kept in steps
    ]


def _by_sensitivity(
    groups: Sequence[Group],
    scores: Sequence[np.ndarray],
    budget: Budget,
    saving: Saving,
) -> Keys:
    """What is lost per what is saved: the fractional knapsack.

    The sum over the groups is least for a given saving if each goes down its curve to
    the same slope (D. Shoham and A. Gersho, 1988, for the bits of quantizers).
    """
    assert budget.sensitivity is not None  # Budget sees to it
    curves = _curves(groups, budget.sensitivity)

    def keys(place: int, steps: Sequence[int]) -> Sequence[float]:
        count = len(scores[place])
        harm = [curves[place](1 - kept / count) for kept in steps]
        return _slopes(harm, saving(place, steps))

    return keys


def harm(groups: Sequence[Group], budget: Budget, kept: Sequence[int]) -> float:
    """How much worse the model gets by its sensitivity, all groups together.

    Args:
        groups: the groups that may lose units.
        budget: with its sensitivity; without one nothing is known of harm, and it is 0.
        kept: how many units each group keeps.
    """
    if budget.strategy != "sensitivity" or budget.sensitivity is None:
        return 0.0
    curves = _curves(groups, budget.sensitivity)
    return sum(
        curve(1 - count / len(group.units))
        for curve, count, group in zip(curves, kept, groups, strict=True)
    )


_STRATEGIES = {"uniform": _uniform, "global": _global, "sensitivity": _by_sensitivity}


def _slopes(harm: Sequence[float], saved: Sequence[float]) -> list[float]:
    """The slopes of the largest convex curve below the harm, as it rises with saving.

    Args:
        harm: of some steps, from the start, where both are 0.
        saved: by the same steps, ascending.

    Returns:
        For each step the slope of the curve that leads to it, ascending.
    """
    pieces: list[tuple[float, float, int]] = []  # harm, saving, steps
    for lost, gain in zip(
        np.diff(harm, prepend=0), np.diff(saved, prepend=0), strict=True
    ):
        piece = (float(lost), float(gain), 1)
        # A step that gains more than the one before it is taken together with that.
        while pieces and _slope(piece) <= _slope(pieces[-1]):
            before = pieces.pop()
            piece = (piece[0] + before[0], piece[1] + before[1], piece[2] + before[2])
        pieces.append(piece)
    return [_slope(piece) for piece in pieces for _ in range(piece[2])]


def _slope(piece: tuple[float, float, int]) -> float:
    # Infinite where a step costs much and saves nothing.
    return piece[0] / max(piece[1], sys.float_info.min)


def _curves(groups: Sequence[Group], table: Drops) -> list[Callable[[float], float]]:
    """How much worse the model got, by the fraction of each group that was gone."""
    rows = dict(zip(table.groups, table.drop, strict=True))
    missing = [group.name for group in groups if group.name not in rows]
    if missing:
        raise ValueError(
            f"`sensitivity` has not measured the groups {missing}. Measure this model "
            "with the same `coupling` and `exclude`. Received: sensitivity of the "
            f"groups {list(table.groups)}"
        )
    drops = [np.asarray(rows[group.name], float) for group in groups]
    narrowed = _narrowed(np.array(table.rates))
    most = max((abs(d) for row in drops for d in row if np.isfinite(d)), default=0.0)
    growths = [_growth(narrowed, drop, most) for drop in drops]
    # What was not measured goes last.
    largest = max((growth[-1] for growth in growths), default=0.0) * narrowed[-1]
    unknown = 1.0 + 2.0 * float(largest)

    def curve(growth: np.ndarray) -> Callable[[float], float]:
        def harm(rate: float) -> float:
            if rate > table.rates[-1]:
                return unknown + rate
            at = _narrowed(rate)
            return float(at * np.interp(at, narrowed, growth))

        return harm

    return [curve(growth) for growth in growths]


def _narrowed(rate: Any) -> np.ndarray:
    """What a group has lost of its width, in e-folds: half of it is 0.69 of any."""
    return -np.log1p(-np.asarray(rate, float))


def _growth(narrowed: np.ndarray, drop: np.ndarray, most: float) -> np.ndarray:
    """How much harm an e-fold of width does, at each rate: never less at higher ones.

    Measured curves are close to a constant times the logarithm of the width, and bend
    down only where the network is nearly lost and cannot get much worse; taken as they
    are, losing it altogether would be cheap. Noise is evened out by isotonic
    regression, whose values are the slopes of the largest convex curve below the
    cumulative sums (R. E. Barlow and others, 1972).

    Args:
        narrowed: e-folds of width at the measured rates.
        drop: what was measured.
        most: the largest finite drop of any group.
    """
    # A network that is lost altogether, infinitely worse, is worse than any other.
    harm = np.minimum(drop, 1.0 + 2.0 * most)
    lost = np.flatnonzero(harm > most / 2)
    known = int(lost[0]) + 1 if len(lost) else len(harm)
    weighted = (narrowed * harm)[:known].cumsum(), (narrowed**2)[:known].cumsum()
    fitted = np.maximum(_slopes(*map(list, weighted)), 0.0)
    return np.pad(fitted, (0, len(harm) - known), mode="edge")
