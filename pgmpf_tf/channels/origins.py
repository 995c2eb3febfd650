"""Where the weights of a compacted model come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array
from pgmpf_tf.channels.elimination import Step
from pgmpf_tf.channels.nodes import part_of
from pgmpf_tf.rules import Weights


@dataclass(frozen=True)
class Origin:
    """Where the values of a compacted model's variable were before.

    Attributes:
        variable: the variable of the compacted model.
        source: the variable of the model that it was made of.
        numbers: for each value its place in the flat `source`, -1 for a value that was
            not there; shape of `variable`. None if all of `source` is there, in order.
    """

    variable: keras.Variable
    source: keras.Variable
    numbers: Array | None = None

    def cut(self, values: Array, fill: Array) -> Array:
        """What is left of values that go with the source, one for each weight.

        Args:
            values: an array of the source's shape.
            fill: an array of the variable's shape, for values that were not there.
        """
        if self.numbers is None:
            return values
        return np.where(self.numbers < 0, fill, values.ravel()[self.numbers])


def whole_origins(new: keras.Operation, old: keras.Operation) -> list[Origin]:
    """The origins of the weights of a copy."""
    return [Origin(*pair) for pair in zip(new.weights, old.weights, strict=True)]


def cut_origins(
    new: keras.Operation, step: Step, names: Mapping[str, str]
) -> list[Origin]:
    """The origins of a layer's weights, if they were cut and not computed.

    The rule cuts once more, numbers instead of weights, and the numbers that come out
    say where each value was. What it computes from numbers may look like one of them,
    but not like the same one in two numberings.

    Args:
        new: the new layer.
        step: the call that it takes the place of.
        names: from the attributes of its weights to those of the rule's answer.
    """
    first, second = _Numbers(power=1), _Numbers(power=2)
    cuts = [
        step.rule.rebuild(step.node, numbers, step.cut).weights or {}
        for numbers in (first, second)
    ]
    found = []
    for name, old_name in names.items():
        source, places = first.read(cuts[0][old_name])
        again, check = second.read(cuts[1][old_name])
        if source is not None and source is again and (places == check).all():
            variable = part_of(new, name)
            found.append(Origin(variable, source, places.reshape(variable.shape)))
    return found


class _Numbers(Weights):
    """Gives each value of each variable a number of its own.

    Args:
        power: the number is its place in the variable to this power, 1 or 2, beyond
            all numbers of the variables before.
    """

    # Beyond any constant that a rule may write, and far below 2^53, so that a rule
    # that works in float64 loses nothing.
    _START = 2**40

    def __init__(self, power: int) -> None:
        super().__init__()
        self._power = power
        self._variables: list[keras.Variable] = []
        self._starts = [self._START]

    def __call__(self, variable: keras.Variable) -> Array:
        """The numbers of a variable's values, int64, of its shape."""
        size = math.prod(variable.shape)
        start = self._starts[-1]
        self._variables.append(variable)
        self._starts.append(start + size**self._power)
        return start + np.arange(size).reshape(variable.shape) ** self._power

    def read(self, numbers: Array) -> tuple[keras.Variable | None, Array]:
        """The variable of which all numbers are, and the place of each in it.

        Returns:
            None and zeros if they are not numbers of one variable. The place of a
            constant is -1.
        """
        with np.errstate(invalid="ignore"):  # what is computed need not be a number
            whole = np.asarray(numbers).astype(np.int64)
        constant = whole < self._START
        own = whole[~constant]
        nothing = None, np.zeros_like(whole)
        if not own.size or (whole != numbers).any() or own.max() >= self._starts[-1]:
            return nothing
        which = np.searchsorted(self._starts, [own.min(), own.max()], side="right") - 1
        offsets = np.where(constant, 0, whole - self._starts[which[0]])
        places = np.rint(offsets ** (1 / self._power)).astype(np.int64)
        if which[0] != which[1] or (places**self._power != offsets).any():
            return nothing
        return self._variables[which[0]], np.where(constant, -1, places)
