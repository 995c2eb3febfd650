"""Criteria that look at what filters put out on data: forward passes, no gradients."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from pgmpf_tf.backends.data import batches
from pgmpf_tf.channels.units import Group, Member
from pgmpf_tf.scores import contributions
from pgmpf_tf.scores.criterion import Criterion


def activation(moments: np.ndarray) -> np.ndarray:
    """The root mean square of what each filter puts out.

    The norm of activations by which Wanda weighs weights (M. Sun et al., ICLR 2024),
    for whole channels.

    Args:
        moments: matrix `(filters, 2)`: mean, and mean of the square.

    Returns:
        Scores, shape `(filters,)`.
    """
    return np.sqrt(np.maximum(moments[:, 1], 0.0))


def variance(moments: np.ndarray) -> np.ndarray:
    """The variance of what each filter puts out (Y. An et al., AAAI 2024).

    What varies little can be replaced by its mean, which the biases of the layers that
    read it can hold: `compensate` puts it there, and `prune` does as much.

    Args:
        moments: matrix `(filters, 2)`: mean, and mean of the square.

    Returns:
        Scores, shape `(filters,)`.
    """
    return np.maximum(moments[:, 1] - np.square(moments[:, 0]), 0.0)


@dataclass(frozen=True, repr=False)
class OfActivations(Criterion):
    """What filters put out on data, with `training=False`.

    It is looked at behind the normalization that scales the filters, if there is one,
    and else where the layer itself puts it out.
    """

    data: Any = dataclasses.field(default=None, compare=False)
    needs_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None:
            contributions.check_repeatable("data", self.data)

    def members_of(self, group: Group) -> tuple[Member, ...]:
        """Scales of normalizations, or where there are none kernels."""
        scales = tuple(m for m in group.members if m.role == "scale")
        return scales or super().members_of(group)

    def matrices(
        self, members: Sequence[Member], models: Sequence[keras.Model]
    ) -> Iterable[np.ndarray]:
        """The moments of the outputs of each member's slices, `(slices, 2)`."""
        return measure(models[0], members, self.data)

    def check_data(self, models: Sequence[keras.Model]) -> None:
        """Looks at the first batch: whether it fits the model.

        Raises:
            ValueError: if it does not, or there are no data.
        """
        super().check_data(models)
        contributions.check_inputs(models, self.data)


@keras.saving.register_keras_serializable("pgmpf_tf")
@dataclass(frozen=True, repr=False)
class Activation(OfActivations):
    """How much each filter puts out on data; see `activation` and `Criterion`.

    It needs no targets and no gradients. The data are not saved with a model: set
    `model.criterion_data` when it is loaded.

    Example:
        >>> criterion = pgmpf_tf.criteria.Activation(images)
        >>> model = pgmpf_tf.wrap(model, criterion=criterion)

    Attributes:
        data: what `fit` takes; targets are not looked at. None only for
            `sensitivity`, which has data of its own.

    Raises:
        ValueError: if data can be gone through only once.
        TypeError: if an argument is of a wrong type.
    """

    def score(self, filters: np.ndarray) -> np.ndarray:
        """See `activation`; `filters` are the moments `(filters, 2)`."""
        return activation(filters)


@keras.saving.register_keras_serializable("pgmpf_tf")
@dataclass(frozen=True, repr=False)
class Variance(OfActivations):
    """How much what each filter puts out varies; see `variance` and `Activation`.

    Attributes:
        data: as for `Activation`.

    Raises:
        ValueError: if data can be gone through only once.
        TypeError: if an argument is of a wrong type.
    """

    def score(self, filters: np.ndarray) -> np.ndarray:
        """See `variance`; `filters` are the moments `(filters, 2)`."""
        return variance(filters)


def measure(
    model: keras.Model, members: Sequence[Member], data: Any
) -> list[np.ndarray]:
    """The moments of what the slices of variables make layers put out.

    Args:
        model: is called with `training=False`.
        members: the variables and their axes.
        data: see `batches`.

    Returns:
        For each member the mean and the mean square of each slice's outputs, of shape
        `(slices, 2)`.

    Raises:
        ValueError: if a layer was not called, or there are no data or several workers.
    """
    contributions.check_one_worker(model)
    sums = [np.zeros((len(member.units), 2)) for member in members]
    counts = np.zeros(len(members))
    with _outputs_of({id(m.layer): m.layer for m in members}) as outputs:
        for x, _, _ in batches("data", data):
            outputs.clear()
            model(x, training=False)
            for place, member in enumerate(members):
                for output in outputs.get(id(member.layer), []):
                    rows = _rows(member, output)
                    sums[place] += np.stack(
                        [rows.sum(axis=1), np.square(rows).sum(axis=1)], axis=1
                    )
                    counts[place] += rows.shape[1]
    for member, count in zip(members, counts, strict=True):
        if not count:
            raise ValueError(
                f"The outputs of layer {member.path!r} cannot be seen when the model "
                "is called; choose another criterion, or `exclude` this layer."
            )
    return [total / count for total, count in zip(sums, counts, strict=True)]


@contextlib.contextmanager
def _outputs_of(
    layers: dict[int, keras.layers.Layer],
) -> Iterator[dict[int, list[np.ndarray]]]:
    """What layers return while they are called, by their `id`."""
    found: dict[int, list[np.ndarray]] = {}

    def watched(layer: keras.layers.Layer) -> Any:
        call = layer.call

        def watching(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            first = keras.tree.flatten(result)[0]
            values = keras.ops.convert_to_numpy(keras.ops.cast(first, "float32"))
            found.setdefault(id(layer), []).append(values)
            return result

        return watching

    with contextlib.ExitStack() as stack:
        for layer in layers.values():
            # Not by setattr: the layer would track what is only visiting.
            layer.__dict__["call"] = watched(layer)
            stack.callback(layer.__dict__.pop, "call")
        yield found


def _rows(member: Member, output: np.ndarray) -> np.ndarray:
    """The outputs of each slice: float64, `(slices, values)`."""
    slices = len(member.units)
    rows = np.moveaxis(output, _axis(member), 0).astype("float64")
    rows = rows.reshape(len(rows), -1)
    if slices % len(rows) == 0:  # a unit of a recurrent layer has several slices
        return np.tile(rows, (slices // len(rows), 1))
    return rows.reshape(slices, -1)  # a depthwise filter makes several channels


def _axis(member: Member) -> int:
    """Where a layer's filters are in its output."""
    layer = member.layer
    if isinstance(layer, keras.layers.EinsumDense):
        operands, result = layer.equation.replace(" ", "").split("->")
        kernel = operands.split(",")[1]
        return result.index(kernel[member.axis]) - len(result)
    if getattr(layer, "data_format", None) == "channels_first":
        return 1
    axis = getattr(layer, "axis", -1)
    return axis if isinstance(axis, int) else -1
