"""JAX: pure functions, to which the values of variables are handed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import keras

from pgmpf_tf.backends.assignments import assign_if
from pgmpf_tf.backends.scopes import substituted
from pgmpf_tf.backends.strategies import (
    check_same_strategy,
    check_strategy,
    strategy_scope,
)

__all__ = [
    "assign_if",
    "check_same_strategy",
    "check_strategy",
    "compiled",
    "gradients",
    "has_several_workers",
    "strategy_scope",
]


def compiled(
    function: Callable[..., Any], variables: Sequence[keras.Variable]
) -> Callable[..., Any]:
    """A function of arrays that is jitted and changes no variable.

    Args:
        function: takes and returns nested structures of arrays, with None where there
            is nothing. What it assigns to variables, itself alone sees.
        variables: all variables that it reads. Another would be a constant to it.

    Returns:
        The function, which reads the variables as they are when it is called.
    """
    variables = list(variables)

    def pure(values: list[Any], *arguments: Any) -> Any:
        with substituted(variables, values):
            return function(*arguments)

    jitted = jax.jit(pure)
    return lambda *arguments: jitted([each.value for each in variables], *arguments)


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

    def of_values(values: list[Any]) -> Any:
        with substituted(variables, values):
            return loss()

    return jax.grad(of_values)([variable.value for variable in variables])


def has_several_workers(model: keras.Model) -> bool:
    """Whether other processes train the same model on other data."""
    return jax.process_count() > 1
