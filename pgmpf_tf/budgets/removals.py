"""In which order units go: every strategy of a budget is a queue of removals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pgmpf_tf._patterns import first_match
from pgmpf_tf.budgets.budget import Budget, Drops
from pgmpf_tf.budgets.rates import names_of
from pgmpf_tf.channels.units import Group
from pgmpf_tf.scores.ranking import kept_count


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
    groups: Sequence[Group], budget: Budget, round_to: int
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


def queue(
    groups: Sequence[Group],
    scores: Sequence[np.ndarray],
    fixed: Mapping[int, float],
    budget: Budget,
    round_to: int,
) -> list[Removal]:
    """All removals, the first to be made first.

    Args:
        groups: the groups that may lose units.
        scores: of the units of each group.
        fixed: groups with a rate of their own, by place: they are in no removal.
        budget: its strategy and `min_keep` count.
        round_to: groups keep a multiple of this.

    Raises:
        ValueError: if the budget's sensitivity has not measured a group.
    """
    key = _KEYS[budget.strategy](groups, scores, budget)
    keyed = []
    for place, group in enumerate(groups):
        count = len(group.units)
        if place in fixed:
            continue
        least = budget.kept_at_least(names_of(group), count)
        for kept in range(count - 1, least - 1, -1):
            if kept % round_to == 0:
                keyed.append((key(place, kept), 1 - kept / count, place, kept))
    return [Removal(place, kept) for _, _, place, kept in sorted(keyed)]


Key = Callable[[int, int], float]
"""From the place of a group and the units that it keeps to how late it loses them."""


def _uniform(
    groups: Sequence[Group], scores: Sequence[np.ndarray], budget: Budget
) -> Key:
    return lambda place, kept: 1 - kept / len(groups[place].units)


def _global(
    groups: Sequence[Group], scores: Sequence[np.ndarray], budget: Budget
) -> Key:
    tiny = np.finfo(float).tiny
    ordered = [np.sort(s) / max(float(np.mean(s)), tiny) for s in scores]
    return lambda place, kept: float(ordered[place][len(ordered[place]) - kept - 1])


def _by_sensitivity(
    groups: Sequence[Group], scores: Sequence[np.ndarray], budget: Budget
) -> Key:
    assert budget.sensitivity is not None  # Budget sees to it
    curves = _curves(groups, budget.sensitivity)
    return lambda place, kept: curves[place](1 - kept / len(groups[place].units))


_KEYS = {"uniform": _uniform, "global": _global, "sensitivity": _by_sensitivity}


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
    # A network that is lost altogether, infinitely worse, is worse than any other.
    finite = [drop for row in rows.values() for drop in row if np.isfinite(drop)]
    worst = 1.0 + 2.0 * max(map(abs, finite), default=0.0)
    xs = [0.0, *table.rates]

    def curve(drop: np.ndarray) -> Callable[[float], float]:
        # More pruning is not less harm: what looks so is noise.
        ys = np.maximum.accumulate(np.minimum([0.0, *drop], worst))
        # What was not measured goes last.
        return lambda x: float(np.interp(x, xs, ys)) if x <= xs[-1] else worst + x

    return [curve(rows[group.name]) for group in groups]
