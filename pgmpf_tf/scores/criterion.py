"""`Criterion`: the base of all criteria, from filters to the scores of units."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np

from pgmpf_tf._checks import check_bool, check_choice, received
from pgmpf_tf.channels.units import NO_UNIT, Group, Member

if TYPE_CHECKING:  # in `typing` from Python 3.11 on
    from typing_extensions import Self

COMBINATIONS = ("sum", "mean", "max")


@dataclass(frozen=True, kw_only=True, repr=False)
class Criterion(abc.ABC):
    """How filters are scored. The lowest scores are pruned.

    A criterion of one's own with options is a class derived from this one; without
    options, a function is enough. To save models that use it, register it with
    `keras.saving.register_keras_serializable`.

    Example:
        >>> class Largest(pgmpf_tf.criteria.Criterion):
        ...     def score(self, filters):
        ...         return abs(filters).max(axis=1)
        >>> model = pgmpf_tf.wrap(model, criterion=Largest(normalize=True))

    Attributes:
        combine: how the scores of the filters of one unit (filters that live and die
            together) become the unit's: `"sum"`, `"mean"` or `"max"`.
        normalize: whether the scores of a variable are divided by their mean first, so
            that layers of different size weigh the same.
        role: which variables are looked at: `"kernel"`, or `"scale"` for the gamma of a
            BatchNormalization.
        needs_data: whether it has an attribute `data`, which is not saved with a model.

    Raises:
        ValueError: if `combine` is none of these.
        TypeError: if an argument is of a wrong type.
    """

    combine: str = "sum"
    normalize: bool = False
    role: ClassVar[str] = "kernel"
    needs_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_choice("combine", self.combine, COMBINATIONS)
        self._set("normalize", check_bool("normalize", self.normalize))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        options = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "data" and value != field.default:
                text = getattr(value, "__qualname__", repr(value))
                options.append(f"{field.name}={text}")
        return f"{type(self).__name__}({', '.join(options)})"

    @abc.abstractmethod
    def score(self, filters: np.ndarray) -> np.ndarray:
        """The scores of the filters of one variable.

        Args:
            filters: float64 matrix `(filters, values)`.

        Returns:
            Scores, shape `(filters,)`.
        """

    def matrices(
        self, members: Sequence[Member], models: Sequence[keras.Model]
    ) -> Iterable[np.ndarray]:
        """What `score` gets of each member: its slices as rows of a matrix.

        Args:
            members: the variables, with the axis of their slices.
            models: the model, and others with the same layers.
        """
        return map(filter_matrix, members)

    def members_of(self, group: Group) -> tuple[Member, ...]:
        """The members of `group` that this criterion looks at."""
        return tuple(member for member in group.members if member.role == self.role)

    def check(self, groups: Sequence[Group]) -> None:
        """Raises ValueError if a group has nothing that this criterion looks at."""
        for group in groups:
            if not self.members_of(group):
                raise ValueError(
                    f"`criterion` needs a variable of role {self.role!r} in each "
                    f"group, and the group {group.name!r} (layers "
                    f"{', '.join(group.layers)}) has none. Choose another criterion, "
                    f"or `exclude` these layers. {received('criterion', self)}"
                )

    def check_data(self, models: Sequence[keras.Model]) -> None:
        """Raises ValueError if data are needed, and are missing or do not fit.

        Args:
            models: as for `scores`.
        """
        self._check_given()

    def _check_given(self) -> None:
        if self.needs_data and getattr(self, "data", None) is None:
            name = type(self).__name__
            raise ValueError(
                f"The criterion {name} needs `data`, what `fit` takes: "
                f"criteria.{name}(data). A file does not hold them: of a model that "
                "was loaded, set `model.criterion_data`. Received: data=None"
            )

    def scores(
        self, groups: Sequence[Group], models: Sequence[keras.Model] = ()
    ) -> list[np.ndarray]:
        """The scores of the units of each group, with the weights as they are now.

        Args:
            groups: what is to be scored.
            models: the model, and others with the same layers, for criteria that look
                at data. The first that is compiled with a loss lends it.

        Returns:
            For each group the scores of `group.units`, in their order.

        Raises:
            ValueError: if a group has nothing that this criterion looks at, a score is
                not finite, a function returned something else than one number per
                filter, or there are no data.
        """
        self.check(groups)
        self._check_given()
        members = {
            _key(member): member
            for group in groups
            for member in self.members_of(group)
        }
        matrices = self.matrices(tuple(members.values()), models)
        scores = {
            key: self._member_scores(member, matrix)
            for (key, member), matrix in zip(members.items(), matrices, strict=True)
        }
        return [self._combined(group, scores) for group in groups]

    def _member_scores(self, member: Member, filters: np.ndarray) -> np.ndarray:
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

    def _combined(
        self, group: Group, scores: Mapping[tuple[int, int], np.ndarray]
    ) -> np.ndarray:
        """The scores of units, from those of the slices of all members."""
        position = {unit: index for index, unit in enumerate(group.units.tolist())}
        total = np.zeros(len(group.units))
        highest = np.full(len(group.units), -np.inf)
        count = np.zeros(len(group.units))
        for member in self.members_of(group):
            index = np.array([position.get(unit, NO_UNIT) for unit in member.units])
            chosen = index != NO_UNIT
            values = scores[_key(member)][chosen]
            np.add.at(total, index[chosen], values)
            np.maximum.at(highest, index[chosen], values)
            np.add.at(count, index[chosen], 1.0)
        if self.combine == "max":
            return highest
        return total / count if self.combine == "mean" else total

    def seeded(self, seed: int) -> Self:
        """This criterion, with a seed if it draws at random and has none yet."""
        return self

    def with_data(self, data: Any) -> Self:
        """This criterion with other data, or None; itself if it looks at none."""
        changes = {"data": data} if self.needs_data else {}
        return dataclasses.replace(self, **changes)

    def get_config(self) -> dict[str, Any]:
        """The options as a dictionary that JSON can hold; data are left out."""
        names = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name != "data"}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The inverse of `get_config`."""
        return cls(**config)


def _key(member: Member) -> tuple[int, int]:
    return id(member.variable), member.axis


def filter_matrix(member: Member) -> np.ndarray:
    """The slices of a member as the rows of a float64 matrix."""
    values = keras.ops.convert_to_numpy(member.variable).astype(np.float64)
    values = np.moveaxis(values, member.axis, 0)
    return values.reshape(len(values), -1)
