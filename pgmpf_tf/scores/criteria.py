"""Criteria: how important is each filter? The lowest scores are pruned.

A criterion is a function from the filters of one layer, a matrix of shape
`(filters, everything else)`, to one score per filter. Users may pass a function of
their own wherever the name of a criterion is allowed.

Scoring takes two steps, since some criteria need data: `measured` looks at the data
once, and what it returns scores any number of groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np

from pgmpf_tf.channels.units import NO_UNIT, Group, Member

Scorer = Callable[[np.ndarray], np.ndarray]
"""Filters as a float64 matrix `(filters, values)` -> scores `(filters,)`."""

Measure = Callable[[Sequence[Member]], Sequence[np.ndarray]]
"""From members to the matrices `(filters, batches)` that `taylor` takes."""

COMBINATIONS = ("sum", "mean", "max")


def l1(filters: np.ndarray) -> np.ndarray:
    """The L1 norm of each filter (H. Li et al., ICLR 2017).

    Args:
        filters: matrix `(filters, values)`.

    Returns:
        Scores, shape `(filters,)`.
    """
    return np.abs(filters).sum(axis=1)


def l2(filters: np.ndarray) -> np.ndarray:
    """The L2 norm of each filter (Y. He et al., IJCAI 2018).

    Args:
        filters: matrix `(filters, values)`.

    Returns:
        Scores, shape `(filters,)`.
    """
    return np.sqrt(np.square(filters).sum(axis=1))


def geometric_median(filters: np.ndarray) -> np.ndarray:
    """The sum of distances to all other filters (FPGM; Y. He et al., CVPR 2019).

    A filter near the geometric median of its layer is the one that the others can
    replace best, however large it is.

    Args:
        filters: matrix `(filters, values)`.

    Returns:
        Scores, shape `(filters,)`.
    """
    squares = np.square(filters).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * filters @ filters.T
    # The product form of a distance of nearly equal filters can round below zero.
    return np.sqrt(np.maximum(distances, 0.0)).sum(axis=1)


def batchnorm_scale(scales: np.ndarray) -> np.ndarray:
    """The magnitude of the BatchNorm gamma (slimming; Z. Liu et al., ICCV 2017).

    Args:
        scales: matrix `(filters, 1)`.

    Returns:
        Scores, shape `(filters,)`.
    """
    return np.abs(scales).sum(axis=1)


def taylor(contributions: np.ndarray) -> np.ndarray:
    """First-order Taylor importance (P. Molchanov et al., CVPR 2019, eq. 9).

    By how much the squared loss would change if the filter were not there, to first
    order: the mean over batches of (sum over its weights of gradient * weight)^2.

    Args:
        contributions: matrix `(filters, batches)`: the sum over the filter's weights
            of gradient * weight, for the loss of each batch.

    Returns:
        Scores, shape `(filters,)`.
    """
    return np.square(contributions).mean(axis=1)


@dataclass(frozen=True)
class Criterion:
    """How the units of a group are scored.

    Attributes:
        score: from the slices of one variable to their scores; None draws at random.
        role: the role of the members that are scored.
        combine: how the scores of the slices of one unit become the unit's:
            `"sum"`, `"mean"` or `"max"`.
        normalize: whether the scores of a variable are divided by their mean first, so
            that layers of different size weigh the same.
        seed: seed of the random scores.
        needs_data: whether what is scored are not the filters' weights, but their
            contributions to the loss on data. `measured` finds them.
        contributions: what `measured` found, by `id` of a variable.
    """

    score: Scorer | None
    role: str = "kernel"
    combine: str = "sum"
    normalize: bool = False
    seed: int = 0
    needs_data: bool = False
    contributions: Mapping[int, np.ndarray] | None = None

    def check(self, groups: Sequence[Group]) -> None:
        """Raises ValueError if a group has nothing that this criterion looks at."""
        for group in groups:
            if self.score and not self.members_of(group):
                raise ValueError(
                    f"`criterion` needs a member of role {self.role!r}, and the group "
                    f"{group.name!r} (layers {', '.join(group.layers)}) has none. "
                    "Choose another criterion, or `exclude` these layers."
                )

    def measured(self, groups: Sequence[Group], measure: Measure) -> Criterion:
        """This criterion with all that it must know to score `groups` as they are now.

        Args:
            groups: what is to be scored.
            measure: called once, with the members that are scored, if data are needed.

        Returns:
            A criterion that is ready for `group_scores`; itself if it needs no data.

        Raises:
            ValueError: if a group has nothing that this criterion looks at, or if
                there are no data.
        """
        self.check(groups)
        if not self.needs_data:
            return self
        members = {id(m.variable): m for g in groups for m in self.members_of(g)}
        found = measure(tuple(members.values()))
        return replace(self, contributions=dict(zip(members, found, strict=True)))

    def group_scores(self, group: Group) -> np.ndarray:
        """The scores of `group.units`, in their order.

        Raises:
            ValueError: if a score is not finite, or a callable criterion returned
                something else than one number per filter.
        """
        if self.score is None:
            name_hash = np.frombuffer(group.name.encode(), np.uint8)
            return np.random.default_rng([self.seed, *name_hash]).random(
                len(group.units)
            )
        position = {unit: index for index, unit in enumerate(group.units.tolist())}
        total = np.zeros(len(group.units))
        highest = np.full(len(group.units), -np.inf)
        count = np.zeros(len(group.units))
        for member in self.members_of(group):
            index = np.array([position.get(unit, NO_UNIT) for unit in member.units])
            chosen = index != NO_UNIT
            scores = self._member_scores(member)[chosen]
            np.add.at(total, index[chosen], scores)
            np.maximum.at(highest, index[chosen], scores)
            np.add.at(count, index[chosen], 1.0)
        if self.combine == "max":
            return highest
        return total / count if self.combine == "mean" else total

    def members_of(self, group: Group) -> tuple[Member, ...]:
        """The members of `group` that this criterion looks at."""
        return tuple(member for member in group.members if member.role == self.role)

    def _member_scores(self, member: Member) -> np.ndarray:
        if self.needs_data:
            filters = self.contributions[id(member.variable)]
        else:
            filters = filter_matrix(member)
        scores = np.asarray(self.score(filters), np.float64)
        if scores.shape != (len(filters),):
            raise ValueError(
                "A criterion must return one score per filter. For the "
                f"{filters.shape} filters of layer {member.layer.name!r} it returned "
                f"an array of shape {scores.shape}."
            )
        if not np.isfinite(scores).all():
            raise ValueError(
                f"The filters of layer {member.layer.name!r} score NaN or infinity, so "
                "no masks can be computed from them. Has the loss diverged? The masks "
                "are as they were; go on from a checkpoint with a lower learning rate."
            )
        if self.normalize and scores.mean() > 0.0:
            scores = scores / scores.mean()
        return scores


def filter_matrix(member: Member) -> np.ndarray:
    """The slices of a member as the rows of a float64 matrix."""
    values = keras.ops.convert_to_numpy(member.variable).astype(np.float64)
    values = np.moveaxis(values, member.axis, 0)
    return values.reshape(len(values), -1)


CRITERIA: Mapping[str, Criterion] = {
    "l1": Criterion(l1),
    "l2": Criterion(l2),
    "geometric_median": Criterion(geometric_median),
    "batchnorm_scale": Criterion(batchnorm_scale, role="scale"),
    "taylor": Criterion(taylor, needs_data=True),
    "random": Criterion(None),
}
"""The criteria by name."""


def resolve(
    criterion: str | Scorer, *, combine: str = "sum", normalize: bool = False, seed: int
) -> Criterion:
    """The criterion of a name or of a function.

    Args:
        criterion: a key of `CRITERIA`, or a function from a matrix
            `(filters, values)` to scores `(filters,)`.
        combine: `"sum"`, `"mean"` or `"max"` over the slices of a unit.
        normalize: whether each variable's scores are divided by their mean.
        seed: seed of the criterion `"random"`.

    Returns:
        The criterion.

    Raises:
        ValueError: if there is no such criterion or combination.
        TypeError: if `criterion` is neither a name nor callable.
    """
    if combine not in COMBINATIONS:
        raise ValueError(
            f"`combine` must be one of {', '.join(map(repr, COMBINATIONS))}. "
            f"Received: combine={combine!r}"
        )
    if callable(criterion):
        known = Criterion(criterion)
    elif not isinstance(criterion, str):
        raise TypeError(
            "`criterion` must be a name or a function. "
            f"Received: criterion={criterion!r}"
        )
    elif criterion not in CRITERIA:
        raise ValueError(
            f"`criterion` must be one of {', '.join(map(repr, CRITERIA))} or a "
            f"function. Received: criterion={criterion!r}"
        )
    else:
        known = CRITERIA[criterion]
    return replace(known, combine=combine, normalize=normalize, seed=seed)
