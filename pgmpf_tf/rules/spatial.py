"""Operations along the spatial axes: pooling, padding, cropping, resizing, reductions.

Zero channels stay zero; nothing passes from one channel to another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pgmpf_tf.channels.arrays import Array, NoRule
from pgmpf_tf.channels.flow import Flow
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.channelwise import Channelwise, channel_axis
from pgmpf_tf.rules.entrywise import Entrywise
from pgmpf_tf.rules.weights import Weights


class Spatial(Channelwise):
    """A layer that keeps channels apart and zero channels zero.

    Args:
        keeps_constants: whether it keeps every constant channel as it is.
    """

    def __init__(self, keeps_constants: bool = False) -> None:
        self.keeps_constants = keeps_constants

    def axes(self, node: Node) -> tuple[int, int]:
        axis = channel_axis(node.operation)
        rank_in, rank_out = len(node.inputs[0].shape), len(node.outputs[0].shape)
        return axis % rank_in, 1 if rank_out == 2 else axis % rank_out

    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        return labels, self._value(node, pruned)

    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        return self._value(node, values)

    def _value(self, node: Node, values: Array) -> Array:
        if self.keeps_constants and not node.masks:
            return values
        if getattr(node.operation, "fill_value", 0.0):
            return np.full(values.shape, np.nan)
        return np.where(values == 0, 0.0, np.nan)


class Reduction(Entrywise):
    """`ops.mean`, `sum`, `max`, `min` over axes along which nothing varies."""

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        operation, rank = node.operation, arrays[0].ndim
        if operation.axis is None or getattr(operation, "initial", None) is not None:
            raise NoRule("it reduces the batch axis")
        axes = tuple(axis % rank for axis in operation.axis)
        if not set(axes).isdisjoint(node.inputs[0].batch):
            raise NoRule("it reduces the batch axis")
        if any(arrays[0].shape[axis] != 1 for axis in axes):
            raise NoRule("it reduces over channels")
        moved = arrays[0]
        return [[moved if operation.keepdims else np.squeeze(moved, axis=axes)]]

    def value(self, node: Node, sources: list[Array]) -> Array:
        return np.where(sources[0] == 0, 0.0, np.nan)
