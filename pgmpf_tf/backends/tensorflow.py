"""TensorFlow: graphs, gradient tapes, distribution strategies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pgmpf_tf.backends.base import Backend


class TensorFlow(Backend):
    """Functions become graphs; models belong to distribution strategies."""

    def compiled(
        self, function: Callable[..., Any], variables: Sequence[keras.Variable]
    ) -> Callable[..., Any]:
        def pure(*arguments: Any) -> Any:
            with keras.StatelessScope():
                return function(*arguments)

        graph = tf.function(pure, reduce_retracing=True)
        traced = False

        def run(*arguments: Any) -> Any:
            nonlocal graph, traced
            if not traced:
                traced = True
                # The last batch may be smaller: one graph is for all. Where a call
                # wants to know how many samples there are, each size gets its own.
                try:
                    graph.get_concrete_function(*_of_any_batch(arguments))
                except (TypeError, ValueError):
                    graph = tf.function(pure)
            return graph(*arguments)

        return run

    def gradients(
        self, loss: Callable[[], Any], variables: Sequence[keras.Variable]
    ) -> list[Any]:
        values = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            value = loss()
        return tape.gradient(value, values, unconnected_gradients="zero")

    def assign_if(
        self,
        condition: Any,
        variables: Sequence[keras.Variable],
        values: Callable[[], Sequence[Any]],
    ) -> None:
        def assign() -> None:
            for variable, value in zip(variables, values(), strict=True):
                variable.assign(value)

        tf.cond(condition, assign, lambda: None)

    def has_several_workers(self, model: keras.Model) -> bool:
        strategy = model.distribute_strategy
        return (
            isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
            and strategy.extended._in_multi_worker_mode()
        )

    def strategy_scope(
        self, model: keras.Model
    ) -> contextlib.AbstractContextManager[Any]:
        strategy, present = model._distribute_strategy, tf.distribute.get_strategy()
        if tf.distribute.has_strategy() and present is not strategy:
            raise ValueError(
                f"The model was made under {_name(strategy)}, but this call stands in "
                f"the scope of {_name(present)}. Make the model, wrap it and compact "
                "it in the same `strategy.scope()`."
            )
        return contextlib.nullcontext() if strategy is None else strategy.scope()

    def check_strategy(self, model: keras.Model) -> None:
        made = getattr(model.optimizer, "_distribution_strategy", None)
        if made is not None and made is not model.distribute_strategy:
            raise ValueError(
                f"The optimizer was made under {_name(made)}, but the model was "
                f"wrapped under {_name(model.distribute_strategy)}. Make the model, "
                "wrap it, and compile it with an optimizer made in the same "
                "`strategy.scope()`."
            )

    def check_same_strategy(
        self, argument: str, model: keras.Model, other: keras.Model
    ) -> None:
        made, expected = model._distribute_strategy, other._distribute_strategy
        if made is not expected:
            raise ValueError(
                f"`{argument}` was made under {_name(made)}, but the model to prune "
                f"under {_name(expected)}. Make both in the same `strategy.scope()`."
            )


def _of_any_batch(arguments: Any) -> Any:
    """What arguments are, apart from the size of the batch; None stays None."""

    def spec(value: Any) -> Any:
        if not np.ndim(value):
            return value
        return tf.TensorSpec((None, *value.shape[1:]), value.dtype)

    return tf.nest.map_structure(spec, arguments)


def _name(strategy: tf.distribute.Strategy | None) -> str:
    name = type(strategy).__name__
    return name if strategy and "Default" not in name else "no strategy"
