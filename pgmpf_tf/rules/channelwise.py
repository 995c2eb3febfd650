"""Operations that look at one channel axis."""

from __future__ import annotations

import abc

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array, NoRule, expand, kept_along, on_axis
from pgmpf_tf.channels.flow import Channels, Flow, channels_on_axis, values_on_axis
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Layout, Rule
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights


class Channelwise(Rule):
    """An operation that looks at one channel axis; other axes must be uniform in it.

    The vectors that its methods take and return run along that axis. It is called with
    one tensor (and masks), and returns one.
    """

    @abc.abstractmethod
    def axes(self, node: Node) -> tuple[int, int]:
        """The channel axis of the input tensor and of the output tensor."""

    @abc.abstractmethod
    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        """Labels of the outputs, and their values wherever their unit is pruned."""

    @abc.abstractmethod
    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        """Known constant values of the outputs, NaN where they vary."""

    def need_vector(
        self, node: Node, weights: Weights, needed: Array, values: Array
    ) -> Array:
        """Needed inputs from needed outputs."""
        return needed

    def layout_vector(
        self, node: Node, kept: Array, needed: Array, read: Array
    ) -> tuple[Array, Array]:
        """Inputs that must be there and outputs that then are."""
        return kept, kept

    def rebuild_vector(
        self,
        node: Node,
        weights: Weights,
        kept_in: Array,
        kept_out: Array,
        values: Array,
    ) -> Rebuilt:
        """What takes the place of the call.

        Args:
            node: the call.
            weights: reads weights.
            kept_in: the inputs that are there.
            kept_out: the outputs that are to be there.
            values: known constant values of all inputs, NaN where they vary.
        """
        return narrower(node)

    def width(self, node: Node) -> int | None:
        """Entries along the channel axis if they must be told apart, else None."""
        return None

    def _vector(self, node: Node, array: Array) -> Array:
        width = self.width(node)
        return array if width is None else expand(array, 0, width)

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        self._check(node)
        axis, axis_out = self.axes(node)
        labels, pruned = flow.vector(inputs[0], axis)
        labels, pruned = self.label_vector(
            node, flow, self._vector(node, labels), self._vector(node, pruned)
        )
        rank = len(node.outputs[0].shape)
        return [channels_on_axis(labels, pruned, axis_out, rank)]

    @staticmethod
    def _check(node: Node) -> None:
        if len(node.inputs) != 1:
            raise NoRule(f"it is called with {len(node.inputs)} tensors")

    def _values(self, node: Node, values: list[Array]) -> Array:
        return self._vector(node, values_on_axis(values[0], self.axes(node)[0]))

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        self._check(node)
        result = self.constant_vector(node, weights, self._values(node, values))
        return [on_axis(result, self.axes(node)[1], len(node.outputs[0].shape))]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        axis, axis_out = self.axes(node)
        assert needed[0] is not None  # a call without any use is not asked
        vector = self.need_vector(
            node,
            weights,
            kept_along(needed[0], axis_out),
            self._values(node, values),
        )
        shape = values[0].shape
        if shape[axis] == 1 and vector.size > 1:
            vector = np.array([vector.any()])
        return [np.broadcast_to(on_axis(vector, axis, len(shape)), shape).copy()]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        axis, axis_out = self.axes(node)
        rank, rank_out = len(node.inputs[0].shape), len(node.outputs[0].shape)
        assert needed[0] is not None
        assert read[0] is not None  # what would leave it out would leave out the call
        read_vector = self._vector(node, kept_along(read[0], axis))
        present = self._vector(node, present_along(kept[0], read[0], axis))
        present, out = self.layout_vector(
            node, present, kept_along(needed[0], axis_out), read_vector
        )
        return [on_axis(present, axis, rank)], [on_axis(out, axis_out, rank_out)]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        axis, axis_out = self.axes(node)
        return self.rebuild_vector(
            node,
            weights,
            kept_along(cut.input, axis),
            kept_along(cut.outputs[0], axis_out),
            self._values(node, cut.values),
        )


def present_along(
    kept: Array, read: Array, axis: int, width: int | None = None
) -> Array:
    """What is there along one axis, if it is there all along the others; else `read`.

    Args:
        kept: what a tensor holds.
        read: what is read of it.
        axis: the axis.
        width: the size along the axis if it is to be spelled out.
    """
    rank, vector = kept.ndim, kept_along(kept, axis)
    if not (kept == on_axis(vector, axis, rank)).all():
        vector = kept_along(read, axis)
    return vector if width is None else expand(vector, 0, width)


def channel_axis(operation: keras.Operation) -> int:
    """The channel axis that an operation's `data_format` names (default: last)."""
    first = getattr(operation, "data_format", None) == "channels_first"
    return 1 if first else -1
