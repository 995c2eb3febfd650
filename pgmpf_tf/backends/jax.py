"""JAX: pure functions, to which the values of variables are handed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import keras

from pgmpf_tf.backends.base import Backend
from pgmpf_tf.backends.scopes import substituted


class Jax(Backend):
    """Functions are jitted; a variable that they are not handed is a constant."""

    def compiled(
        self, function: Callable[..., Any], variables: Sequence[keras.Variable]
    ) -> Callable[..., Any]:
        variables = list(variables)

        def pure(values: list[Any], *arguments: Any) -> Any:
            with substituted(variables, values):
                return function(*arguments)

        jitted = jax.jit(pure)
        return lambda *arguments: jitted([each.value for each in variables], *arguments)

    def gradients(
        self, loss: Callable[[], Any], variables: Sequence[keras.Variable]
    ) -> list[Any]:
        def of_values(values: list[Any]) -> Any:
            with substituted(variables, values):
                return loss()

        return jax.grad(of_values)([variable.value for variable in variables])

    def has_several_workers(self, model: keras.Model) -> bool:
        return jax.process_count() > 1
