"""Values that stand in for variables, on the backends whose gradients need that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras.src.backend.common.stateless_scope import get_stateless_scope


def substituted(
    variables: Sequence[keras.Variable], values: Sequence[Any]
) -> keras.StatelessScope:
    """A scope in which variables have other values, and nothing is assigned for good.

    Args:
        variables: the variables.
        values: a tensor for each, of its shape.

    Returns:
        The scope. Keras sees the innermost one only, so it also has what the one
        around it holds.
    """
    scope = keras.StatelessScope(list(zip(variables, values, strict=True)))
    around = get_stateless_scope()
    if around is not None:
        scope.state_mapping = {**around.state_mapping, **scope.state_mapping}
    return scope
