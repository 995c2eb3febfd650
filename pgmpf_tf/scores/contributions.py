"""What criteria need that look at data: the data, and the loss on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.trainers.compile_utils import CompileLoss

from pgmpf_tf.backends import current as backend
from pgmpf_tf.backends.data import batches
from pgmpf_tf.channels.units import Member


class DataScoring:
    """Measures how filters contribute to a model's loss on a user's data.

    Args:
        data: what `fit` takes, with targets; None if they come later.
        loss: what `compile` takes as a loss, or None.

    Attributes:
        models: the model, and others with the same layers. The first that is compiled
            with a loss lends it, if there is no other.
    """

    def __init__(self, data: Any, loss: Any) -> None:
        self.models: tuple[keras.Model, ...] = ()
        self._loss = loss
        self.criterion_data = data

    @property
    def criterion_data(self) -> Any:
        """The data, to be set again after a model is loaded from a file."""
        return self._data

    @criterion_data.setter
    def criterion_data(self, data: Any) -> None:
        check_repeatable("data", data)
        self._data = data

    def measure(self, members: Sequence[Member]) -> list[np.ndarray]:
        """The contributions `(filters, batches)` of each member; see `taylor`.

        Raises:
            ValueError: if there are no data or no loss, or the data have no targets.
        """
        if self._data is None:
            raise ValueError(
                "The criterion 'taylor' needs data, which a file does not hold: set "
                "`model.criterion_data` to what `fit` takes, or pass `data=` to `wrap`."
            )
        loss = self._task_loss()

        def with_targets(y: Any, outputs: Any, weights: Any) -> Any:
            if y is None:
                raise ValueError(
                    "The criterion 'taylor' needs data with targets: (x, y), or "
                    "batches of that. Received: data without targets"
                )
            return loss(y, outputs, weights)

        return contributions(self.models[0], with_targets, members, self._data)

    def _task_loss(self) -> Callable[..., Any]:
        """The loss on the targets alone, without penalties on weights."""
        # Own objects: those of the model would count these batches in its metrics.
        names = getattr(self.models[0], "output_names", None)
        if self._loss is not None:
            return CompileLoss(self._loss, output_names=names)
        for model in self.models:
            compiled = getattr(model, "_compile_loss", None)
            if compiled is not None:
                return CompileLoss(
                    compiled._user_loss,
                    compiled._user_loss_weights,
                    output_names=names,
                )
        raise ValueError(
            "The criterion 'taylor' needs a loss: compile the model with one, or pass "
            "`loss=` to `wrap`."
        )


def contributions(
    model: keras.Model, loss: Callable[..., Any], members: Sequence[Member], data: Any
) -> list[np.ndarray]:
    """What the slices of variables contribute to the loss of each batch.

    Args:
        model: is called with `training=False`.
        loss: a function of targets, outputs and sample weights to a number.
        members: the variables and their axes.
        data: see `batches`.

    Returns:
        For each member the sum over each slice of gradient * weight, of shape
        `(slices, batches)`.

    Raises:
        ValueError: if there are no data or several workers, whose masks would part.
    """
    if backend.has_several_workers(model):
        raise ValueError(
            "A criterion that needs data cannot be used with several workers: each "
            "would score its own data, and their masks would differ."
        )
    variables = list({id(m.variable): m.variable for m in members}.values())

    def products(x: Any, y: Any, weights: Any) -> list[Any]:
        found = backend.gradients(
            lambda: loss(y, model(x, training=False), weights), variables
        )
        of_variable = {
            id(variable): keras.ops.cast(gradient * variable, "float32")
            for gradient, variable in zip(found, variables, strict=True)
        }
        return [
            keras.ops.sum(
                of_variable[id(member.variable)],
                [a for a in range(len(member.variable.shape)) if a != member.axis],
            )
            for member in members
        ]

    run = backend.compiled(products, model.variables)
    found = [
        [keras.ops.convert_to_numpy(sums) for sums in run(*batch)]
        for batch in batches("data", data)
    ]
    return [np.stack(of_member, axis=-1) for of_member in zip(*found, strict=True)]


def check_repeatable(argument: str, data: Any) -> None:
    """Raises ValueError if `data` can be gone through only once."""
    if isinstance(data, Iterator):
        raise ValueError(
            f"`{argument}` is gone through several times, and a generator only once: "
            "give arrays, (x, y), a tf.data.Dataset or a PyDataset. Received: "
            f"{argument} of type {type(data).__name__}"
        )
