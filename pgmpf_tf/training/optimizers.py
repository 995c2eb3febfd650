"""What pruning has to know about Keras optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras

SUPPRESS = ("auto", "gradient", "update")

# Sums of squared gradients (Adagrad, Ftrl) never move a weight by themselves, and Ftrl
# divides by them: they stay.
_HARMLESS = frozenset({"_accumulators"})


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


def uses_average(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether the optimizer keeps a moving average of the weights."""
    return any(inner.use_ema for inner in innermost(optimizer))


def scale_slots(
    optimizer: keras.optimizers.Optimizer,
    factor: Callable[[keras.Variable], keras.KerasTensor | None],
) -> None:
    """Multiplies what the optimizer remembers of each variable by a factor.

    Momenta, averages of the weights and accumulated gradients would go on moving a
    filter whose gradient is zero. Every Keras optimizer holds them as lists that run
    parallel to the variables it was built with, one entry of the variable's shape each.

    Args:
        optimizer: any Keras optimizer; one that is not built has nothing to scale.
        factor: from a model variable to the factor, which broadcasts to it, or None.
    """
    for inner in innermost(optimizer):
        if not inner.built:
            continue
        variables = list(inner._trainable_variables)
        for name, slots in vars(inner).items():
            if (
                not isinstance(slots, (list, tuple))
                or len(slots) != len(variables)
                or name in _HARMLESS
            ):
                continue
            for variable, slot in zip(variables, slots, strict=True):
                if slot is variable or not isinstance(slot, keras.Variable):
                    continue
                scale = factor(variable)
                if scale is not None and tuple(slot.shape) == tuple(variable.shape):
                    slot.assign(slot * keras.ops.cast(scale, slot.dtype))
