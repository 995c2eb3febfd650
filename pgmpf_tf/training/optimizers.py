"""What pruning has to know about Keras optimizers."""

from __future__ import annotations

from collections.abc import Iterator

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


def uses_average(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether the optimizer keeps a moving average of the weights."""
    return any(inner.use_ema for inner in innermost(optimizer))
