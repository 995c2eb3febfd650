"""PyTorch: eager execution, gradients by a tape in the tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch

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
    """A function of arrays that runs eagerly and changes no variable.

    Args:
        function: takes and returns nested structures of arrays, with None where there
            is nothing. What it assigns to variables, itself alone sees.
        variables: all variables that it reads, for backends that must know.

    Returns:
        The function, which reads the variables as they are when it is called.
    """

    def tensor(value: Any) -> Any:
        return None if value is None else keras.ops.convert_to_tensor(value)

    def pure(*arguments: Any) -> Any:
        tensors = keras.tree.map_structure(tensor, arguments)
        with torch.no_grad(), keras.StatelessScope():
            return function(*tensors)

    return pure


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
    # Not the parameters themselves: a frozen one has no gradient.
    values = [variable.value.detach().requires_grad_() for variable in variables]
    with torch.enable_grad(), substituted(variables, values):
        value = loss()
        found = torch.autograd.grad(value, values, allow_unused=True)
    return [
        torch.zeros_like(value) if gradient is None else gradient
        for value, gradient in zip(values, found, strict=True)
    ]


def has_several_workers(model: keras.Model) -> bool:
    """Whether other processes train the same model on other data."""
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
