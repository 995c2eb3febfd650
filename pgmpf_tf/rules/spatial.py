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
    """`ops.mean`, `sum`, `max`, `min` over axes.

    What varies along the axes that vanish and along others too (the channels of each
    head, say) lives and dies with them: only whole ones go.
    """

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        operation, (array,) = node.operation, arrays
        axes = self.axes(node, array.ndim)
        if self.across(node, arrays):
            raise NoRule("it reduces over channels")
        return [[array if operation.keepdims else np.squeeze(array, axis=axes)]]

    @staticmethod
    def axes(node: Node, rank: int) -> tuple[int, ...]:
        """The axes that vanish."""
        operation = node.operation
        if operation.axis is None or getattr(operation, "initial", None) is not None:
            raise NoRule("it reduces the batch axis")
        axes = tuple(axis % rank for axis in operation.axis)
        if not set(axes).isdisjoint(node.inputs[0].batch):
            raise NoRule("it reduces the batch axis")
        return axes

    def across(self, node: Node, arrays: list[Array]) -> bool:
        """Whether something varies along the axes that vanish, and only there."""
        axes, varying = self._varying(node, arrays[0])
        return bool(axes & varying) and not varying - axes

    def by_slices(self, node: Node, arrays: list[Array]) -> bool:
        """Whether something varies along the axes that vanish, and along others."""
        axes, varying = self._varying(node, arrays[0])
        return bool(axes & varying) and bool(varying - axes)

    def _varying(self, node: Node, array: Array) -> tuple[set[int], set[int]]:
        varying = {axis for axis, size in enumerate(array.shape) if size != 1}
        return {*self.axes(node, array.ndim)}, varying

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        labels, pruned = inputs[0].labels, inputs[0].pruned
        if not self.by_slices(node, [labels]):
            return super().label(node, flow, inputs)
        axes = self.axes(node, labels.ndim)
        first = labels.max(axis=axes, keepdims=True)
        flow.tie(labels, first)
        zero = np.broadcast_to(pruned == 0, labels.shape).all(axis=axes, keepdims=True)
        found = first, np.where(zero, 0.0, np.nan)
        return [Channels(*(self.sources(node, [x], None)[0][0] for x in found))]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        if not self.by_slices(node, values):
            return super().constants(node, weights, values)
        axes = self.axes(node, values[0].ndim)
        zero = np.where((values[0] == 0).all(axis=axes, keepdims=True), 0.0, np.nan)
        return [self.sources(node, [zero], None)[0][0]]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        if not self.by_slices(node, values):
            return super().needs(node, weights, needed, values)
        axes, (wanted,) = self.axes(node, values[0].ndim), needed
        assert wanted is not None  # a call without any use is not asked
        if not node.operation.keepdims:
            wanted = np.expand_dims(wanted, axes)
        there = ~(values[0] == 0).all(axis=axes, keepdims=True)
        return [np.broadcast_to(wanted & there, values[0].shape).copy()]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        if not self.by_slices(node, kept):
            return super().layout(node, kept, needed, read)
        axes = self.axes(node, kept[0].ndim)
        slices = np.asarray(kept[0].any(axis=axes, keepdims=True))
        present = np.broadcast_to(slices, kept[0].shape).copy()
        return [present], self.sources(node, [slices], None)[0]

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
