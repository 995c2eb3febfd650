"""Assignments to variables, on the backends whose compiled steps have no branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras


def assign_if(
    condition: Any,
    variables: Sequence[keras.Variable],
    values: Callable[[], Sequence[Any]],
) -> None:
    """Assigns to variables if a condition holds that is known in the step only.

    Args:
        condition: a scalar tensor of truth values.
        variables: the variables.
        values: gives a tensor for each.
    """
    for variable, value in zip(variables, values(), strict=True):
        now = keras.ops.copy(variable)
        variable.assign(keras.ops.where(condition, value, now))
