"""Criteria: how important is each filter? The lowest scores are pruned.

`wrap` and `sensitivity` take a criterion by its name, as an object, or as a function of
one's own:

```python
pgmpf_tf.wrap(model, criterion="l1")
pgmpf_tf.wrap(model, criterion=pgmpf_tf.criteria.L1(combine="max", normalize=True))
pgmpf_tf.wrap(model, criterion=pgmpf_tf.criteria.Taylor((images, labels), loss))
pgmpf_tf.wrap(model, criterion=lambda filters: abs(filters).max(axis=1))
```

The functions here are the formulas: from the filters of one layer, a matrix of shape
`(filters, everything else)`, to one score per filter. The classes say in addition what
of a layer they look at, and how the scores of filters that go together become one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np

from pgmpf_tf._checks import check_callable, check_seed, received
from pgmpf_tf.channels.units import Group, Member
from pgmpf_tf.scores import contributions
from pgmpf_tf.scores.activations import Activation, Variance, activation, variance
from pgmpf_tf.scores.criterion import Criterion

if TYPE_CHECKING:  # in `typing` from Python 3.11 on
    from typing_extensions import Self

__all__ = [
    "CRITERIA",
    "L1",
    "L2",
    "Activation",
    "BatchNormScale",
    "Criterion",
    "Custom",
    "GeometricMedian",
    "Random",
    "Scorer",
    "Taylor",
    "Variance",
    "activation",
    "batchnorm_scale",
    "geometric_median",
    "l1",
    "l2",
    "resolve",
    "taylor",
    "variance",
]

Scorer = Callable[[np.ndarray], np.ndarray]
"""Filters as a float64 matrix `(filters, values)` -> scores `(filters,)`."""


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


_saved = keras.saving.register_keras_serializable("pgmpf_tf")


@_saved
@dataclass(frozen=True, repr=False)
class L1(Criterion):
    """The L1 norm of each filter; see `l1`. Options: see `Criterion`."""

    def score(self, filters: np.ndarray) -> np.ndarray:
        """See `l1`."""
        return l1(filters)


@_saved
@dataclass(frozen=True, repr=False)
class L2(Criterion):
    """The L2 norm of each filter; see `l2`. Options: see `Criterion`."""

    def score(self, filters: np.ndarray) -> np.ndarray:
        """See `l2`."""
        return l2(filters)


@_saved
@dataclass(frozen=True, repr=False)
class GeometricMedian(Criterion):
    """The distance to the other filters; see `geometric_median` and `Criterion`."""

    def score(self, filters: np.ndarray) -> np.ndarray:
        """See `geometric_median`."""
        return geometric_median(filters)


@_saved
@dataclass(frozen=True, repr=False)
class BatchNormScale(Criterion):
    """The BatchNorm gamma of each filter; see `batchnorm_scale` and `Criterion`."""

    role: ClassVar[str] = "scale"

    def score(self, filters: np.ndarray) -> np.ndarray:
        """See `batchnorm_scale`."""
        return batchnorm_scale(filters)


@_saved
@dataclass(frozen=True, repr=False)
class Taylor(Criterion):
    """How much each filter contributes to the loss on data; see `taylor`.

    Filters are scored anew at each update of the masks, with `training=False`. Some
    batches are enough. The data are not saved with a model: set `model.criterion_data`
    when it is loaded.

    Example:
        >>> taylor = pgmpf_tf.criteria.Taylor((images, labels), "mse", normalize=True)
        >>> model = pgmpf_tf.wrap(model, criterion=taylor)

    Attributes:
        data: what `fit` takes, with targets, but no generator. None only for
            `sensitivity`, which has data of its own.
        loss: what `compile` takes as a loss. None takes the loss that the wrapped
            model, or the plain one, is compiled with. Penalties on weights do not
            count.

    Raises:
        ValueError: if data can be gone through only once, or there is no such loss.
        TypeError: if an argument is of a wrong type.
    """

    data: Any = dataclasses.field(default=None, compare=False)
    loss: Any = None
    needs_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None:
            contributions.check_repeatable("data", self.data)
        contributions.check_loss("loss", self.loss)

    def score(self, filters: np.ndarray) -> np.ndarray:
        """See `taylor`; `filters` are the contributions `(filters, batches)`."""
        return taylor(filters)

    def matrices(
        self, members: Sequence[Member], models: Sequence[keras.Model]
    ) -> Iterable[np.ndarray]:
        """The contributions of the slices of each member, `(slices, batches)`."""
        return contributions.measure(models, members, self.data, self.loss)

    def check_data(self, models: Sequence[keras.Model]) -> None:
        """Looks at the first batch: whether it fits the model and its loss.

        Raises:
            ValueError: if it does not, or there are no data.
        """
        super().check_data(models)
        contributions.check_fits(models, self.data, self.loss)

    def get_config(self) -> dict[str, Any]:
        """The options as a dictionary that JSON can hold; data are left out."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The inverse of `get_config`."""
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**{**config, "loss": loss})


@_saved
@dataclass(frozen=True, repr=False)
class Random(Criterion):
    """Scores drawn at random, once for each group: a baseline.

    Attributes:
        seed: of the draws. None takes the seed of `wrap`.

    Raises:
        ValueError: if `seed` is not in [0, 2^31).
        TypeError: if an argument is of a wrong type.
    """

    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed is not None:
            self._set("seed", check_seed("seed", self.seed))

    def score(self, filters: np.ndarray) -> np.ndarray:
        """Scores that depend on the seed alone."""
        return np.random.default_rng(self.seed).random(len(filters))

    def check(self, groups: Sequence[Group]) -> None:
        """Accepts every group: nothing of it is looked at."""

    def scores(
        self, groups: Sequence[Group], models: Sequence[keras.Model] = ()
    ) -> list[np.ndarray]:
        """The scores of each group; they depend on the seed and the group's name."""
        seed = 0 if self.seed is None else self.seed
        return [
            np.random.default_rng(
                [seed, *np.frombuffer(group.name.encode(), np.uint8)]
            ).random(len(group.units))
            for group in groups
        ]

    def seeded(self, seed: int) -> Self:
        """This criterion; with that seed, if it has none."""
        return dataclasses.replace(self, seed=seed) if self.seed is None else self


@_saved
@dataclass(frozen=True, repr=False)
class Custom(Criterion):
    """A function of one's own, with the options of `Criterion`.

    Example:
        >>> largest = pgmpf_tf.criteria.Custom(
        ...     lambda filters: abs(filters).max(axis=1), normalize=True
        ... )

    Attributes:
        function: from a float64 matrix `(filters, values)` to scores `(filters,)`. To
            save a model, it must be registered with
            `keras.saving.register_keras_serializable`.

    Raises:
        TypeError: if `function` is not a function.
    """

    function: Scorer

    def __post_init__(self) -> None:
        super().__post_init__()
        check_callable(
            "function",
            self.function,
            "a function from a matrix (filters, values) to scores (filters,)",
        )

    def score(self, filters: np.ndarray) -> np.ndarray:
        """What the function returns."""
        return self.function(filters)

    def get_config(self) -> dict[str, Any]:
        """The options as a dictionary that JSON can hold."""
        function = keras.saving.serialize_keras_object(self.function)
        return {**super().get_config(), "function": function}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The inverse of `get_config`."""
        function = keras.saving.deserialize_keras_object(config["function"])
        return cls(**{**config, "function": function})


CRITERIA: Mapping[str, type[Criterion]] = {
    "l1": L1,
    "l2": L2,
    "geometric_median": GeometricMedian,
    "batchnorm_scale": BatchNormScale,
    "taylor": Taylor,
    "activation": Activation,
    "variance": Variance,
    "random": Random,
}
"""The criteria by name."""


def resolve(criterion: str | Criterion | Scorer) -> Criterion:
    """The criterion of a name, of a function, or itself.

    Args:
        criterion: a key of `CRITERIA`, a `Criterion`, or a function from a matrix
            `(filters, values)` to scores `(filters,)`.

    Returns:
        The criterion.

    Raises:
        ValueError: if there is no criterion of that name.
        TypeError: if it is nothing of these.
    """
    if isinstance(criterion, Criterion):
        return criterion
    if isinstance(criterion, str):
        names = ", ".join(map(repr, CRITERIA))
        if criterion not in CRITERIA:
            raise ValueError(
                f"`criterion` must be one of {names}, a Criterion or a function. "
                f"{received('criterion', criterion)}"
            )
        return CRITERIA[criterion]()
    # A class is callable too, and never what is meant.
    if isinstance(criterion, type) or not callable(criterion):
        raise TypeError(
            "`criterion` must be a name, a Criterion such as "
            "`pgmpf_tf.criteria.L1()`, or a function. "
            f"{received('criterion', criterion)}"
        )
    return Custom(criterion)
