"""The one multiplication of the method: gradient * (M + (1 - M)(1 - lambda) b)."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from pgmpf_tf.training.draws import uniform
from pgmpf_tf.training.mask_layout import MaskLayout, Pieces
from pgmpf_tf.training.state import PruningState

Factors = Mapping[int, Any]
"""From `id` of a variable to a factor that broadcasts to it."""

Apply = Callable[[Sequence[Any], Sequence[keras.Variable]], None]
"""Takes gradients and variables, as `keras.Optimizer.apply` does."""

_depth: Counter[int] = Counter()
_lock = threading.Lock()


def factors(
    state: PruningState, layout: MaskLayout, dropout: float, step: Any
) -> dict[int, Any]:
    """The factor of each variable: M + (1 - M)(1 - lambda) b, per channel.

    Args:
        state: masks M and suppression lambda.
        layout: which entry stands for which unit.
        dropout: probability that b is 0, drawn anew for each entry.
        step: number of the step. The same step and seed give the same draw, on every
            replica, after every restart and on every backend.

    Returns:
        From `id` of a variable to a factor that broadcasts to it.
    """
    ops = keras.ops
    mask = ops.take(state.mask, layout.units)
    passed = 1.0 - state.suppression
    if dropout > 0.0:
        draw = uniform(state.seed, step, len(layout.units))
        passed = ops.where(draw < np.float32(dropout), 0.0, passed)
    factor = mask + (1.0 - mask) * passed
    result: dict[int, Any] = {}
    for pieces in layout.pieces:
        cut = _cut(factor, pieces)
        for variable, number in pieces.of_variables:
            # A kernel may lose filters, and inputs that would not be zero.
            other = result.get(id(variable))
            result[id(variable)] = cut[number] if other is None else cut[number] * other
    return result


def _cut(factor: Any, pieces: Pieces) -> list[Any]:
    ops = keras.ops
    flat = factor if pieces.entries is None else ops.take(factor, pieces.entries)
    flat = ops.cast(flat, pieces.dtype)
    flat = ops.reshape(flat, (-1, *(1,) * pieces.trailing))
    ends = np.cumsum(pieces.sizes)[:-1].tolist()
    return list(ops.split(flat, ends)) if ends else [flat]


def multiply(
    gradients: Sequence[Any], variables: Sequence[Any], by: Factors
) -> list[Any]:
    """The gradients times their factors; a gradient of None, or without one, stays."""
    return [
        gradient
        if gradient is None or id(variable) not in by
        else gradient * by[id(variable)]
        for gradient, variable in zip(gradients, variables, strict=True)
    ]


def where_not_zero(by: Factors) -> dict[int, Any]:
    """Factors of 0 where a factor is 0, and of 1 elsewhere."""
    return {key: keras.ops.cast(value != 0, value.dtype) for key, value in by.items()}


@contextlib.contextmanager
def intercepted(
    optimizers: Iterable[keras.optimizers.Optimizer],
    apply: Callable[[keras.optimizers.Optimizer, Apply, Sequence[Any], Any], None],
) -> Iterator[None]:
    """Lets another function stand in for the `apply` of optimizers.

    Replicas trace in threads that wait for each other inside the optimizer, so several
    may be in here at once: the first one in installs, the last one out removes.

    Args:
        optimizers: the optimizers.
        apply: gets the optimizer, its own `apply`, the gradients, and the variables or
            None.
    """
    with contextlib.ExitStack() as stack:
        for optimizer in optimizers:
            stack.enter_context(_intercepted(optimizer, apply))
        yield


@contextlib.contextmanager
def _intercepted(
    optimizer: keras.optimizers.Optimizer,
    apply: Callable[[keras.optimizers.Optimizer, Apply, Sequence[Any], Any], None],
) -> Iterator[None]:
    original = type(optimizer).apply

    def own(gradients: Sequence[Any], variables: Sequence[keras.Variable]) -> None:
        original(optimizer, gradients, variables)

    def replacement(gradients: Sequence[Any], trainable_variables: Any = None) -> None:
        apply(optimizer, own, gradients, trainable_variables)

    with _lock:
        _depth[id(optimizer)] += 1
        if _depth[id(optimizer)] == 1:
            # Not by setattr: the optimizer would track what is only visiting.
            optimizer.__dict__["apply"] = replacement
    try:
        yield
    finally:
        with _lock:
            _depth[id(optimizer)] -= 1
            if not _depth[id(optimizer)]:
                del _depth[id(optimizer)], optimizer.__dict__["apply"]
