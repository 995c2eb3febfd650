"""What pruning has to know about Keras optimizers."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras

SUPPRESS = ("auto", "gradient", "update")


def innermost(
    optimizer: keras.optimizers.Optimizer,
) -> Iterator[keras.optimizers.Optimizer]:
    """The optimizers that do the work inside a wrapper such as LossScaleOptimizer."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        yield from innermost(optimizer.inner_optimizer)
    elif hasattr(optimizer, "optimizers"):
        for inner in optimizer.optimizers:
            yield from innermost(inner)
    else:
        yield optimizer


def suppresses_update(suppress: str, optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether a filter is slowed by scaling its update, rather than its gradient.

    Only SGD's step is proportional to the gradient. Adam and its kin divide by the
    gradient's own magnitude, so a gradient made ten times smaller gives the same step.
    """
    if suppress != "auto":
        return suppress == "update"
    return not all(
        isinstance(inner, keras.optimizers.SGD) for inner in innermost(optimizer)
    )


# Their step is the learning rate times what does not depend on it, weight by weight.
_PROPORTIONAL = (
    keras.optimizers.Adadelta,
    keras.optimizers.Adagrad,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adamax,
    keras.optimizers.Lion,
    keras.optimizers.Nadam,
    keras.optimizers.RMSprop,
)


def steps_follow_rate(
    optimizer: keras.optimizers.Optimizer, variables: Iterable[Any]
) -> bool:
    """Whether `scaled_steps` can scale the steps of variables.

    Not where the optimizer remembers its steps (RMSprop with momentum), or something
    else moves the weights after them: a constraint, or averages that overwrite them.
    """
    return not any(getattr(v, "constraint", None) for v in variables) and all(
        type(inner) in _PROPORTIONAL
        and not getattr(inner, "momentum", 0.0)
        and not (inner.use_ema and inner.ema_overwrite_frequency)
        for inner in innermost(optimizer)
    )


@contextlib.contextmanager
def scaled_steps(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[Any],
    factors: Sequence[Any],
) -> Iterator[None]:
    """For a while, an optimizer moves weights by a part of its step only.

    What would be a multiplication of each step is one of the learning rate, a number
    for each channel instead of one for all. It costs no memory and next to no time,
    where scaling what a weight has moved by takes a copy of it.

    Args:
        optimizer: one whose `steps_follow_rate`.
        variables: the variables whose steps are scaled.
        factors: a factor for each of them, that broadcasts to it.
    """
    inside = list(innermost(optimizer))
    for inner in inside:
        # By the optimizer's own key: it may be handed a replica's part of a variable.
        keys = [inner._var_key(variable) for variable in variables]
        by = dict(zip(keys, factors, strict=True))
        # Not by setattr: the optimizer would track what is only visiting.
        vars(inner)["update_step"] = functools.partial(_scaled_update, inner, by)
        vars(inner)["_apply_weight_decay"] = functools.partial(_scaled_decay, inner, by)
    try:
        yield
    finally:
        for inner in inside:
            del vars(inner)["update_step"], vars(inner)["_apply_weight_decay"]


def _scaled_update(
    optimizer: keras.optimizers.Optimizer,
    by: Mapping[Any, Any],
    gradient: Any,
    variable: Any,
    learning_rate: Any,
) -> None:
    rate = _scaled_rate(learning_rate, by.get(optimizer._var_key(variable)))
    type(optimizer).update_step(optimizer, gradient, variable, rate)


def _scaled_decay(
    optimizer: keras.optimizers.Optimizer,
    by: Mapping[Any, Any],
    variables: Iterable[Any],
) -> None:
    """Keras' weight decay, with the learning rate of each channel."""
    if optimizer.weight_decay is None:
        return
    for variable in variables:
        if optimizer._use_weight_decay(variable):
            decay = keras.ops.cast(optimizer.weight_decay, variable.dtype)
            rate = keras.ops.cast(optimizer.learning_rate, variable.dtype)
            rate = _scaled_rate(rate, by.get(optimizer._var_key(variable)))
            optimizer.assign_sub(variable, variable * decay * rate)


def _scaled_rate(rate: Any, factor: Any) -> Any:
    if factor is None:
        return rate
    return keras.ops.cast(rate, factor.dtype) * factor


# Its square, divided by the mean square of all gradients, is a normal float32.
_LEAST_SQUARE = 1e-16


@contextlib.contextmanager
def finite_without_gradient(
    optimizer: keras.optimizers.Optimizer,
) -> Iterator[None]:
    """For a while, lets Adafactor take steps where inputs and outputs are masked.

    It divides by the root of a product of two averages, over a weight's row and over
    its column. Where both are of gradients that are zero, that is a product of two
    `epsilon_1`, by default 1e-30, which underflows: 0 / 0, and the norm that the step
    is clipped by spreads it to the whole kernel.

    Args:
        optimizer: the optimizer of the model, whichever.
    """
    raised = {
        inner: inner.epsilon_1
        for inner in innermost(optimizer)
        if isinstance(inner, keras.optimizers.Adafactor)
        and inner.epsilon_1 < _LEAST_SQUARE
    }
    for inner in raised:
        inner.epsilon_1 = _LEAST_SQUARE
    try:
        yield
    finally:
        for inner, epsilon in raised.items():
            inner.epsilon_1 = epsilon


def uses_average(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether the optimizer keeps a moving average of the weights."""
    return any(inner.use_ema for inner in innermost(optimizer))
