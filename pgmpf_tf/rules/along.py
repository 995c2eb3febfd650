"""Operations that look along some axes, and keep channels along others apart."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array, NoRule, whole_slices
from pgmpf_tf.channels.flow import Channels, Flow
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Layout, Rule
from pgmpf_tf.rules.indexing import whole_along
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt
from pgmpf_tf.rules.weights import Weights


class Along(Rule):
    """Softmax and its kin: everything along some axes goes into every result.

    Args:
        keeps_zero: whether what is zero all along these axes stays zero.
    """

    def __init__(self, keeps_zero: bool = False) -> None:
        self.keeps_zero = keeps_zero

    def axes(self, node: Node) -> tuple[int, ...]:
        """The axes, counted from the left."""
        axis: Any = getattr(node.operation, "axis", -1)
        axes = axis if isinstance(axis, (list, tuple)) else [axis]
        rank = len(node.inputs[0].shape)
        if axis is None or 0 in [a % rank for a in axes]:
            raise NoRule("it looks across the batch")
        return tuple(a % rank for a in axes)

    def _value(self, values: Array, axes: tuple[int, ...]) -> Array:
        zero = (values == 0).all(axis=axes, keepdims=True) & self.keeps_zero
        return np.where(zero, 0.0, np.nan)

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        axes, labels = self.axes(node), inputs[0].labels
        if any(labels.shape[axis] > 1 for axis in axes):
            raise NoRule("it looks across channels")
        value = np.broadcast_to(self._value(inputs[0].pruned, axes), labels.shape)
        return [Channels(labels, value)]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        return [self._value(values[0], self.axes(node))]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        wanted, axes = needed[0], self.axes(node)
        assert wanted is not None  # a call without any use is not asked
        thin = tuple(
            axis
            for axis, size in enumerate(values[0].shape)
            if size == 1 or axis in axes
        )
        read = wanted.any(axis=thin, keepdims=True)
        return [np.broadcast_to(read, values[0].shape).copy()]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        present = kept[0]
        if not self.keeps_zero and read[0] is not None:
            # What is not there is zero, and what comes of zeros is asked for.
            present = whole_slices(present | read[0])
        present = whole_along(present, *self.axes(node))
        return [present], [present]


class Activation(Rule):
    """The layer that applies a function by name: value by value, or a softmax.

    Args:
        pointwise: the rule for a function of single values.
    """

    def __init__(self, pointwise: Rule) -> None:
        self.pointwise, self.along = pointwise, Along()

    def _rule(self, node: Node) -> Rule:
        function = node.operation.activation
        softmax = function in (keras.activations.softmax, keras.activations.log_softmax)
        return self.along if softmax else self.pointwise

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        return self._rule(node).label(node, flow, inputs)

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        return self._rule(node).constants(node, weights, values)

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        return self._rule(node).needs(node, weights, needed, values)

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        return self._rule(node).layout(node, kept, needed, read)

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        return self._rule(node).rebuild(node, weights, cut)
