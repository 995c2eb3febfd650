"""What a network would cost without some units, told without building it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.elimination import Step, eliminate
from pgmpf_tf.channels.folding import fold_selects
from pgmpf_tf.channels.graph import Node, functional_of, trace
from pgmpf_tf.channels.units import Analysis
from pgmpf_tf.profiling import rule_of
from pgmpf_tf.rules import Supposition


@dataclass(frozen=True)
class Cost:
    """What `profile` would count.

    Attributes:
        macs: multiply-accumulates for one sample; None if an axis of unknown size
            keeps them from being counted.
        params: entries of all weights.
    """

    macs: int | None
    params: int


class CostModel:
    """Tells the cost of the network that `compact` would make, unit by unit.

    It asks the same rules about the same graph as `compact`, so that it is right by
    construction: also where layers are shared, branches die, or nothing can go. Only
    the weights are never cut, and no layer is built.

    Args:
        model: a built Keras model.
        analysis: its units.
    """

    def __init__(self, model: keras.Model, analysis: Analysis) -> None:
        self._model = functional_of(model)
        self._analysis = analysis
        self._known: dict[int, Any] = {}

    def cost(self, removed: np.ndarray) -> Cost:
        """The cost without some units.

        Args:
            removed: bool, shape `(units,)`: True for a unit of the analysis that goes.
        """
        with self.without(removed) as supposition:
            steps = eliminate(fold_selects(trace(self._model)))
            supposition.instead = _sizes
            return _count(steps)

    @contextlib.contextmanager
    def without(self, removed: np.ndarray) -> Iterator[Supposition]:
        """For a while, `compact(model)` makes the network without some units.

        The weights of the model stay as they are.

        Args:
            removed: as in `cost`.
        """
        # The last entry is for slices without a unit: NO_UNIT is -1.
        gone = np.append(removed, False)
        zero = {}
        for member in self._analysis.members:
            slices = gone[member.units]
            if slices.any():
                zero[id(member.variable)] = (member.axis, slices)
        supposition = Supposition(zero, self._known)
        with supposition.made():
            yield supposition


def _sizes(variable: keras.Variable) -> np.ndarray:
    """An array of the variable's shape that takes no memory."""
    return np.broadcast_to(np.int8(0), variable.shape)


def _count(steps: list[Step]) -> Cost:
    macs, params, counted = 0, 0, set()
    for step in steps:
        node = step.node
        call = step.rule.rebuild(node, step.required, step.produced)
        if call.alias is not None:
            continue
        operation = node.operation
        before = _macs(node)
        if call.weights is None:
            macs += before
            new = {id(w): math.prod(w.shape) for w in getattr(operation, "weights", ())}
        else:
            macs += before * _shrinkage(operation, call.weights)
            new = {
                id(getattr(operation, name)): value.size
                for name, value in call.weights.items()
            }
        params += sum(size for key, size in new.items() if key not in counted)
        counted |= new.keys()
    return Cost(None if math.isnan(macs) else round(macs), params)


def _macs(node: Node) -> float:
    rule = rule_of(node.operation)
    try:
        return rule(node.operation, node) if rule else 0
    except ValueError:  # an axis of unknown size
        return math.nan


def _shrinkage(operation: keras.Operation, weights: dict[str, np.ndarray]) -> float:
    """How much of its kernels a layer keeps: its MACs are in proportion to them."""
    names = [name for name, value in weights.items() if value.ndim > 1]
    before = sum(math.prod(getattr(operation, name).shape) for name in names)
    return sum(weights[name].size for name in names) / before if before else 1.0
