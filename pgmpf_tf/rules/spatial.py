"""Operations along the spatial axes: pooling, padding, cropping, resizing, reductions.

Zero channels stay zero; nothing passes from one channel to another.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array, NoRule, everything, unknown, whole_slices
from pgmpf_tf.channels.flow import NO_LABEL, Channels, Flow
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Layout
from pgmpf_tf.rules.channelwise import Channelwise, channel_axis
from pgmpf_tf.rules.entrywise import Entrywise
from pgmpf_tf.rules.rebuilding import Builder, Cut, NewTensors, Rebuilt, narrower
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
        if self.across(node, arrays):
            raise NoRule("it reduces over channels")
        moved = arrays[0]
        return [[moved if operation.keepdims else np.squeeze(moved, axis=axes)]]

    @staticmethod
    def across(node: Node, arrays: list[Array]) -> bool:
        """Whether something varies along the axes that vanish, and only there."""
        array = arrays[0]
        axes = {axis % array.ndim for axis in node.operation.axis or ()}
        varying = {axis for axis, size in enumerate(array.shape) if size != 1}
        if axes & varying and varying - axes:
            raise NoRule("it reduces over channels that lie along several axes")
        return bool(axes & varying)

    def value(self, node: Node, sources: list[Array]) -> Array:
        return np.where(sources[0] == 0, 0.0, np.nan)


class Total(Reduction):
    """`ops.mean` and `sum`, over channels as well: those that are zero may go.

    With n' of n channels left, the mean is n' / n of the mean over those.
    """

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        if not self.across(node, [inputs[0].labels]):
            return super().label(node, flow, inputs)
        flow.mix(inputs[0], f"'{node.path}'")
        one = (1,) * len(node.outputs[0].shape)
        return [Channels(np.full(one, NO_LABEL), np.full(one, np.nan))]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        if not self.across(node, values):
            return super().constants(node, weights, values)
        return [unknown(len(node.outputs[0].shape))]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        if not self.across(node, values):
            return super().needs(node, weights, needed, values)
        return [whole_slices(~(values[0] == 0))]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        if not self.across(node, kept):
            return super().layout(node, kept, needed, read)
        return [kept[0]], [everything(len(node.outputs[0].shape))]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        share = float(cut.input.mean())
        plain = narrower(node)
        if share == 1 or type(node.operation).__name__ != "Mean":
            return plain
        if not self.across(node, [cut.input]):
            return plain

        def build(builder: Builder, inputs: NewTensors) -> Any:
            mean = plain.build(builder, inputs)
            return builder.named(keras.ops.multiply(mean, share), f"{node.name}_share")

        return Rebuilt(build)
