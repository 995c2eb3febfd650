"""What a network would cost without some units, found without building it."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from pgmpf_tf.budgets.segments import Segment, Segments
from pgmpf_tf.channels.elimination import Step, eliminate
from pgmpf_tf.channels.folding import fold_gathers
from pgmpf_tf.channels.graph import functional_of, trace
from pgmpf_tf.channels.nodes import part_of
from pgmpf_tf.channels.sizes import settle_sizes
from pgmpf_tf.channels.units import Analysis
from pgmpf_tf.profiling import macs_of
from pgmpf_tf.rules import Sizes, Weights
from pgmpf_tf.rules.weights import ShapesOnly


@dataclass(frozen=True)
class Cost:
    """What `profile` would count.

    Attributes:
        macs: multiply-accumulates for one sample.
        params: entries of all weights.
    """

    macs: int
    params: int


class CostModel:
    """The cost of the network that `compact` would make, unit by unit.

    It asks the same rules about the same graph as `compact`, so that it is right by
    construction: also where layers are shared, branches die, or nothing can go. Only
    the weights are never cut, and no layer is built.

    Args:
        model: a built Keras model.
        analysis: its units.

    Attributes:
        graph: the model.
    """

    def __init__(self, model: keras.Model, analysis: Analysis) -> None:
        self.graph = fold_gathers(settle_sizes(trace(functional_of(model))))
        self._analysis = analysis
        self._cache: dict[Any, np.ndarray] = {}

    def cost(self, removed: np.ndarray) -> Cost:
        """The cost without some units.

        Args:
            removed: bool, shape `(units,)`: True for a unit of the analysis that goes.
        """
        return _count(self.steps(removed))

    def steps(self, removed: np.ndarray) -> list[Step]:
        """The calls that are left without some units, their weights only shapes.

        Args:
            removed: as in `cost`.
        """
        weights = self.without(removed)
        return eliminate(self.graph, weights, new_weights=ShapesOnly())

    def segments(self, removed: np.ndarray) -> Iterator[Segment]:
        """The parts that a latency table tells the times of.

        Args:
            removed: as in `cost`.
        """
        return self.parts.of(self.steps(removed))

    @functools.cached_property
    def parts(self) -> Segments:
        """What cuts the network into those parts."""
        return Segments(self.graph)

    def without(self, removed: np.ndarray) -> Weights:
        """The weights with some units taken for zero; the model keeps its own.

        Args:
            removed: as in `cost`.
        """
        # The last entry is for slices without a unit: NO_UNIT is -1.
        gone = np.append(removed, False)
        zero: dict[int, list[tuple[int, np.ndarray]]] = {}
        for member in self._analysis.members:
            slices = gone[member.units]
            if slices.any():
                zero.setdefault(id(member.variable), []).append((member.axis, slices))
        return Weights(zero, self._cache)


def _count(steps: list[Step]) -> Cost:
    macs = params = 0
    counted: set[Any] = set()
    for step in steps:
        rebuilt, operation = step.rebuilt, step.node.operation
        assert rebuilt is not None  # the last walk of the elimination sets it
        sizes = Sizes.after(step.node, step.cut, rebuilt)
        counts = macs_of(step.node, step.rule, sizes)
        macs += (counts if rebuilt.macs is None else rebuilt.macs) or 0
        if rebuilt.weights is None:
            weights = getattr(operation, "weights", ())
            new = {id(w): math.prod(w.shape) for w in weights}
        else:
            new = {
                _identity(operation, name): value.size
                for name, value in rebuilt.weights.items()
            }
        params += sum(size for key, size in new.items() if key not in counted)
        counted |= new.keys()
    return Cost(macs, params)


def _identity(operation: keras.Operation, name: str) -> Any:
    """What is the same for all calls that share a weight."""
    variable = part_of(operation, name)
    # A weight that the layer had not is known by its name.
    return (id(operation), name) if variable is None else id(variable)
