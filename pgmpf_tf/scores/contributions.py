"""How filters contribute to a model's loss on a user's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src import backend as keras_backend
from keras.src.trainers.compile_utils import CompileLoss

from pgmpf_tf._checks import received
from pgmpf_tf.backends import current as backend
from pgmpf_tf.backends.data import batches, check_data
from pgmpf_tf.channels.units import Member


def measure(
    models: Sequence[keras.Model], members: Sequence[Member], data: Any, loss: Any
) -> list[np.ndarray]:
    """What the slices of variables contribute to the loss of each batch.

    Args:
        models: the model, and others with the same layers. The first that is compiled
            with a loss lends it, if there is no other.
        members: the variables and their axes.
        data: what `fit` takes, with targets.
        loss: what `compile` takes as a loss, or None.

    Returns:
        For each member the sum over each slice of gradient * weight, of shape
        `(slices, batches)`.

    Raises:
        ValueError: if there is no loss, or the data have no targets.
    """
    compiled = _task_loss(models, loss)
    if compiled is None:
        raise ValueError(
            "The criterion Taylor needs a loss: compile the model with one, or give "
            "`criteria.Taylor(data, loss)` one. Received: loss=None"
        )
    return contributions(models[0], _needs_targets(compiled), members, data)


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
    check_one_worker(model)
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


def check_one_worker(model: keras.Model) -> None:
    """Raises ValueError if there are several workers, whose masks would part."""
    if backend.has_several_workers(model):
        raise ValueError(
            "A criterion that needs data cannot be used with several workers: each "
            "would score its own data, and their masks would differ."
        )


def check_fits(models: Sequence[keras.Model], data: Any, loss: Any) -> None:
    """Raises ValueError if a model cannot be scored on data; nothing is computed.

    Takes the first batch, and asks what shapes the model and its loss would make of
    it. If no loss is known yet, only inputs are looked at, and whether there are
    targets.

    Args:
        models: as for `measure`.
        data: as for `measure`.
        loss: as for `measure`.
    """
    for x, y, weights in batches("data", data, 1):
        compiled = _task_loss(models, loss)
        _check_targets(y)

        def value(x: Any, y: Any, weights: Any, loss: Any = compiled) -> Any:
            outputs = models[0](x, training=False)
            return outputs if loss is None else loss(y, outputs, weights)

        _ask_shapes(models[0], value, (x, y, weights), ", and its loss")


def check_inputs(models: Sequence[keras.Model], data: Any) -> None:
    """Raises ValueError if a model cannot be called on data; nothing is computed.

    Args:
        models: as for `measure`.
        data: as for `measure`; targets are not looked at.
    """
    for x, y, weights in batches("data", data, 1):

        def value(x: Any, y: Any, weights: Any) -> Any:
            return models[0](x, training=False)

        _ask_shapes(models[0], value, (x, y, weights), "")


def _ask_shapes(
    model: keras.Model, function: Callable[..., Any], batch: Any, more: str
) -> None:
    try:
        keras_backend.compute_output_spec(function, *_specs(batch))
    except Exception as error:  # whatever a layer or a loss raises
        x, y, _ = batch
        targets = "" if y is None else f" and y {_shapes(y)}"
        raise ValueError(
            f"`data` must fit the model's inputs, {_shapes(model.input)}{more}. "
            f"Received: data with batches of x {_shapes(x)}{targets}: {error}"
        ) from error


def check_repeatable(name: str, data: Any) -> None:
    """Raises what is wrong with data that are gone through again and again.

    Args:
        name: the caller's argument.
        data: what was passed for it.

    Raises:
        ValueError: if they can be gone through only once.
        TypeError: if they are no data at all.
    """
    check_data(name, data)
    if isinstance(data, Iterator):
        raise ValueError(
            f"`{name}` is gone through several times, and a generator only once: "
            "give arrays, (x, y), a tf.data.Dataset or a PyDataset. Received: "
            f"{name} of type {type(data).__name__}"
        )


def check_loss(name: str, loss: Any) -> None:
    """Raises what is wrong with a loss that `compile` is to take.

    Args:
        name: the caller's argument.
        loss: what was passed for it: the name of a loss, a loss, a function, None, or a
            structure of these.

    Raises:
        ValueError: if there is no loss of that name.
        TypeError: if it is none of these.
    """
    allowed = "what `compile` takes: a loss, its name, or a structure of these"
    for part in tree.flatten(loss):
        if not (part is None or isinstance(part, str) or callable(part)):
            raise TypeError(f"`{name}` must be {allowed}. {received(name, loss)}")
        try:
            keras.losses.get(part)
        except ValueError as error:
            raise ValueError(
                f"`{name}` must be {allowed}. {received(name, loss)}"
            ) from error


def _task_loss(models: Sequence[keras.Model], loss: Any) -> CompileLoss | None:
    """The loss on the targets alone, without penalties on weights, if there is one."""
    # Own objects: those of the model would count these batches in its metrics.
    names = getattr(models[0], "output_names", None)
    if loss is not None:
        return CompileLoss(loss, output_names=names)
    for model in models:
        compiled = getattr(model, "_compile_loss", None)
        if compiled is not None:
            return CompileLoss(
                compiled._user_loss, compiled._user_loss_weights, output_names=names
            )
    return None


def _needs_targets(loss: Callable[..., Any]) -> Callable[..., Any]:
    def with_targets(y: Any, outputs: Any, weights: Any) -> Any:
        _check_targets(y)
        return loss(y, outputs, weights)

    return with_targets


def _check_targets(y: Any) -> None:
    if y is None:
        raise ValueError(
            "The criterion Taylor needs `data` with targets: (x, y), or batches of "
            "that. Received: data without targets"
        )


def _specs(tensors: Any) -> Any:
    def spec(value: Any) -> keras.KerasTensor | None:
        if value is None:
            return None
        dtype = keras.backend.standardize_dtype(value.dtype)
        return keras.KerasTensor(value.shape, dtype)

    return tree.map_structure(spec, tensors)


def _shapes(tensors: Any) -> Any:
    return tree.map_structure(lambda x: tuple(x.shape), tensors)
