"""TensorFlow: graphs, gradient tapes, distribution strategies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


def compiled(
    function: Callable[..., Any], variables: Sequence[keras.Variable]
) -> Callable[..., Any]:
    """A function of arrays that runs as a graph and changes no variable.

    Args:
        function: takes and returns nested structures of arrays, with None where there
            is nothing. What it assigns to variables, itself alone sees.
        variables: all variables that it reads, for backends that must know.

    Returns:
        The function, which reads the variables as they are when it is called.
    """

    def pure(*arguments: Any) -> Any:
        with keras.StatelessScope():
            return function(*arguments)

    return tf.function(pure, reduce_retracing=True)


def gradients(
    loss: Callable[[], Any], variables: Sequence[keras.Variable]
) -> list[Any]:
    """The gradients of a number, inside a `compiled` function.

    Args:
        loss: gives the number.
        variables: to differentiate by, each only once.

    Returns:
        One tensor per variable, zeros where the number does not depend on it.
    """
    values = [variable.value for variable in variables]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        value = loss()
    return tape.gradient(value, values, unconnected_gradients="zero")


def assign_if(
    condition: Any,
    variables: Sequence[keras.Variable],
    values: Callable[[], Sequence[Any]],
) -> None:
    """Assigns to variables if a condition holds that is known in the step only.

    Args:
        condition: a scalar tensor of truth values.
        variables: the variables.
        values: gives a tensor for each. It is not computed if the condition is false.
    """

    def assign() -> None:
        for variable, value in zip(variables, values(), strict=True):
            variable.assign(value)

    tf.cond(condition, assign, lambda: None)


def has_several_workers(model: keras.Model) -> bool:
    """Whether other processes train the same model on other data."""
    strategy = model.distribute_strategy
    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.extended._in_multi_worker_mode()
    )


def strategy_scope(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """The scope in which a model that shares the layers of `model` must be made.

    Raises:
        ValueError: if the caller stands in the scope of another strategy.
    """
    strategy = model._distribute_strategy
    if tf.distribute.has_strategy() and tf.distribute.get_strategy() is not strategy:
        raise ValueError(
            f"The model was made under {_name(strategy)}, but this call stands in the "
            f"scope of {_name(tf.distribute.get_strategy())}. Make the model, wrap it "
            "and compact it in the same `strategy.scope()`."
        )
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def check_strategy(model: keras.Model) -> None:
    """Raises ValueError if the optimizer was made under another strategy."""
    made = getattr(model.optimizer, "_distribution_strategy", None)
    if made is not None and made is not model.distribute_strategy:
        raise ValueError(
            f"The optimizer was made under {_name(made)}, but the model was wrapped "
            f"under {_name(model.distribute_strategy)}. Make the model, wrap it, and "
            "compile it with an optimizer made in the same `strategy.scope()`."
        )


def check_same_strategy(argument: str, model: keras.Model, other: keras.Model) -> None:
    """Raises ValueError if a model was made under another strategy than `other`."""
    made, expected = model._distribute_strategy, other._distribute_strategy
    if made is not expected:
        raise ValueError(
            f"`{argument}` was made under {_name(made)}, but the model to prune under "
            f"{_name(expected)}. Make both in the same `strategy.scope()`."
        )


def _name(strategy: tf.distribute.Strategy | None) -> str:
    name = type(strategy).__name__
    return name if strategy and "Default" not in name else "no strategy"
