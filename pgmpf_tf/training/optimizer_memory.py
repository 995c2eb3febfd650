"""What an optimizer remembers of each weight: scaled, or cut with the weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.origins import Origin
from pgmpf_tf.training.optimizers import innermost

# Sums of squared gradients (Adagrad, Ftrl) never move a weight by themselves, and Ftrl
# divides by them: they stay.
_HARMLESS = frozenset({"_accumulators"})


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
        for slots in _slots(inner):
            if slots.name in _HARMLESS:
                continue
            for variable, slot in slots.pairs():
                scale = factor(variable)
                if scale is not None and tuple(slot.shape) == tuple(variable.shape):
                    slot.assign(slot * keras.ops.cast(scale, slot.dtype))


class _Slots:
    """What an optimizer remembers under one name, one entry for each variable.

    Attributes:
        name: the optimizer's attribute.
    """

    def __init__(self, name: str, variables: Sequence[Any], slots: Sequence[Any]):
        self.name = name
        self._variables, self._slots = variables, slots

    def pairs(self) -> Iterator[tuple[keras.Variable, keras.Variable]]:
        """A model's variable and what is remembered of it, where there is something."""
        for variable, slot in zip(self._variables, self._slots, strict=True):
            if isinstance(slot, keras.Variable) and slot is not variable:
                yield variable, slot


def _slots(optimizer: keras.optimizers.Optimizer) -> Iterator[_Slots]:
    """All that an optimizer of no others remembers; nothing before it is built."""
    if not optimizer.built:
        return
    variables = list(optimizer._trainable_variables)
    for name, slots in vars(optimizer).items():
        if isinstance(slots, (list, tuple)) and len(slots) == len(variables):
            yield _Slots(name, variables, slots)


def cut_optimizer(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    origins: Iterable[Origin],
) -> tuple[keras.optimizers.Optimizer, list[str]]:
    """An optimizer that goes on with a compacted model where another one stands.

    It has the same settings, the same learning rate or schedule, the same count of
    steps and loss scale. What it remembers of a weight (momenta, averages, accumulated
    gradients) is what the other remembers of it.

    Args:
        optimizer: any Keras optimizer, one made of others included. It stays as it is.
        variables: the trainable variables of the compacted model.
        origins: where they come from.

    Returns:
        The new optimizer, and what it does not remember although it ought to, in words.

    Raises:
        ValueError: if there is no way to make a second optimizer of the same kind.
    """
    by_variable = {id(origin.variable): origin for origin in origins}
    copy = _copy(optimizer, list(by_variable.values()))
    missing: list[str] = []
    if optimizer.built:
        copy.build(list(variables))
        for old, new in _pairs(optimizer, copy):
            _take_numbers(old, new)
        for old, new in zip(innermost(optimizer), innermost(copy), strict=True):
            missing += _take_slots(old, new, by_variable)
    return copy, missing


def _copy(
    optimizer: keras.optimizers.Optimizer, origins: Sequence[Origin]
) -> keras.optimizers.Optimizer:
    """An optimizer with the same settings that is not built."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return type(optimizer)(
            _copy(optimizer.inner_optimizer, origins),
            initial_scale=optimizer.initial_scale,
            dynamic_growth_steps=optimizer.dynamic_growth_steps,
            name=optimizer.name,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of functions that no file can hold
            config = optimizer.get_config()
        if hasattr(optimizer, "optimizers"):
            config["optimizer_map"] = _copied_map(optimizer, origins)
            return type(optimizer)(**config)
        rate = optimizer._learning_rate
        if not isinstance(rate, keras.Variable):
            config["learning_rate"] = rate  # a function of the step: it has no state
        copy = type(optimizer).from_config(config)
    except Exception as error:  # anything may be in a user's optimizer
        raise ValueError(
            "The optimizer must be one that `get_config()` and `from_config()` can "
            "make a second time, to go on with the compacted model. Received: "
            f"optimizer={optimizer.name!r} of type {type(optimizer).__name__}: {error}"
        ) from error
    _exempt_from_decay(optimizer, copy, origins)
    return copy


def _copied_map(
    optimizer: keras.optimizers.Optimizer, origins: Sequence[Origin]
) -> Any:
    """The map of a `MultiOptimizer` with copies of its optimizers."""
    chosen = optimizer._optimizer_map
    if not hasattr(chosen, "default_optimizer"):
        raise ValueError(
            "it chooses by a function; use a keras.optimizers.OptimizerMap"
        )
    copies = {id(one): _copy(one, origins) for one in optimizer.optimizers}
    return type(chosen)(
        copies[id(chosen.default_optimizer)],
        {pattern: copies[id(one)] for pattern, one in chosen.items()},
    )


def _exempt_from_decay(
    old: keras.optimizers.Optimizer,
    new: keras.optimizers.Optimizer,
    origins: Sequence[Origin],
) -> None:
    """Lets weight decay spare what it spares already: no configuration has it."""
    spared = getattr(old, "_exclude_from_weight_decay", None)
    if spared is None:
        return
    new.exclude_from_weight_decay(
        [o.variable for o in origins if old._var_key(o.source) in spared]
    )
    new._exclude_from_weight_decay_pattern = old._exclude_from_weight_decay_pattern


def _pairs(
    old: keras.optimizers.Optimizer, new: keras.optimizers.Optimizer
) -> Iterator[tuple[keras.optimizers.Optimizer, keras.optimizers.Optimizer]]:
    """Two optimizers of the same kind, and all that are inside of them."""
    yield old, new
    if isinstance(old, keras.optimizers.LossScaleOptimizer):
        yield from _pairs(old.inner_optimizer, new.inner_optimizer)
    elif hasattr(old, "optimizers"):
        for pair in zip(old.optimizers, new.optimizers, strict=True):
            yield from _pairs(*pair)


def _take_numbers(
    old: keras.optimizers.Optimizer, new: keras.optimizers.Optimizer
) -> None:
    """Steps done, learning rate, loss scale: what is not about a single weight."""
    for name, value in vars(new).items():
        source = vars(old).get(name)
        if isinstance(value, keras.Variable) and isinstance(source, keras.Variable):
            # A copy: a step on JAX takes the buffers over that it gets.
            value.assign(keras.ops.copy(source))


def _take_slots(
    old: keras.optimizers.Optimizer,
    new: keras.optimizers.Optimizer,
    origins: Mapping[int, Origin],
) -> list[str]:
    """Cuts what is remembered of each weight; returns what could not be cut."""
    remembered = {
        (slots.name, id(variable)): slot
        for slots in _slots(old)
        for variable, slot in slots.pairs()
    }
    missing = []
    for slots in _slots(new):
        for variable, slot in slots.pairs():
            value = None
            if origin := origins.get(id(variable)):
                source = remembered.get((slots.name, id(origin.source)))
                value = None if source is None else _cut_slot(origin, source, slot)
            if value is None:
                missing.append(f"{slots.name} of {variable.path}")
            else:
                slot.assign(value)
    return missing


def _cut_slot(
    origin: Origin, source: keras.Variable, slot: keras.Variable
) -> np.ndarray | None:
    """The value of `slot` from that of `source`; None if nobody knows how."""
    value, fresh = map(keras.ops.convert_to_numpy, (source, slot))
    whole = origin.numbers is None or not value.shape
    if whole and value.shape == fresh.shape:
        return value
    pairs = ((source, origin.source), (slot, origin.variable))
    if all(tuple(one.shape) == tuple(weight.shape) for one, weight in pairs):
        return origin.cut(value, fresh)
    return None
