"""Normalization by statistics across channels, exact with fewer channels.

What is pruned is zero, and the zeros count in the statistics of the masked network. So
a layer that has lost channels computes the statistics of the tensor as it was: over n
channels, of which n' remain.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    any_along,
    expand,
    on_axis,
    whole_slices,
)
from pgmpf_tf.channels.flow import Channels, Flow
from pgmpf_tf.channels.folding import Standardize
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Layout, Sizes
from pgmpf_tf.rules.channelwise import Channelwise
from pgmpf_tf.rules.rebuilding import Builder, NewTensors, Rebuilt, narrower
from pgmpf_tf.rules.standardizing import exactly_normalized, standardized
from pgmpf_tf.rules.weights import Weights


class Normalization(Channelwise):
    """Looks at every channel that is not zero, to scale each of them."""

    def axes(self, node: Node) -> tuple[int, int]:
        rank, axis = len(node.inputs[0].shape), node.operation.axis
        axes = [axis] if isinstance(axis, int) else list(axis)
        if [a % rank for a in axes] != [rank - 1]:
            raise NoRule("it does not normalize along the last axis alone")
        return rank - 1, rank - 1

    def width(self, node: Node) -> int | None:
        return node.inputs[0].shape[self.axes(node)[0]]

    def need_vector(
        self, node: Node, weights: Weights, needed: Array, values: Array
    ) -> Array:
        return needed | ~(values == 0)

    def layout_vector(
        self, node: Node, kept: Array, needed: Array, read: Array
    ) -> tuple[Array, Array]:
        return kept | read, kept | read

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        return 0

    @staticmethod
    def label_affine(node: Node, flow: Flow, labels: Array, pruned: Array) -> Array:
        """Records gamma and beta; the values of the outputs where their unit is pruned.

        A pruned channel must come in as zero, and goes out as zero because its gamma
        and its beta are.
        """
        layer = node.operation
        flow.mix(Channels(labels, pruned), f"'{node.path}'")
        if layer.gamma is not None:
            flow.member(node, layer.gamma, 0, "scale", labels)
        if layer.beta is not None:
            flow.member(node, layer.beta, 0, "offset", labels)
        zero = (labels >= 0) & (layer.gamma is not None)
        return np.where(zero, 0.0, np.nan)

    @staticmethod
    def affine_constants(node: Node, weights: Weights, values: Array) -> Array:
        """What comes out where gamma is zero: beta."""
        layer = node.operation
        if layer.gamma is None:
            return np.full(values.shape, np.nan)
        beta = 0.0 if layer.beta is None else weights(layer.beta)
        return np.where(weights(layer.gamma) == 0, beta, np.nan)

    @staticmethod
    def cut_affine(node: Node, weights: Weights, kept: Array) -> dict[str, Array]:
        """What is left of gamma and beta."""
        layer = node.operation
        return {
            name: weights(getattr(layer, name))[kept]
            for name in ("gamma", "beta")
            if getattr(layer, name) is not None
        }


class AtEachPosition(Normalization):
    """Each vector along the last axis by itself: whole ones may go, as heads do."""

    def keeps_zero(self, node: Node) -> bool:
        """Whether a vector of zeros stays one."""
        return True

    def scale(self, node: Node) -> keras.Variable | None:
        """The factor of each channel."""
        return None

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        self._check(node)
        axis, _ = self.axes(node)
        labels, zero = inputs[0].labels, inputs[0].pruned == 0
        alone = labels.size == labels.shape[axis]
        if alone or (labels.shape[axis] > 1 and not self.keeps_zero(node)):
            return super().label(node, flow, inputs)
        if labels.shape[axis] == 1:
            return [
                Channels(labels, np.where(zero & self.keeps_zero(node), 0.0, np.nan))
            ]
        flow.mix(inputs[0], f"'{node.path}'")
        scale = self.scale(node)
        if scale is not None:
            vector = flow.fresh(labels.shape[axis])
            flow.member(node, scale, 0, "scale", vector)
            flow.tie_unless_whole(on_axis(vector, axis, labels.ndim), labels)
        return [Channels(labels, np.where(labels >= 0, 0.0, np.nan))]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        self._check(node)
        axis, _ = self.axes(node)
        width = self.width(node) if values[0].shape[axis] == 1 else None
        array = values[0] if width is None else expand(values[0], axis, width)
        rows = array.reshape(-1, array.shape[axis])
        found = [self.constant_vector(node, weights, row) for row in rows]
        return [np.stack(found).reshape(array.shape)]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        """Of the vectors that are needed, all that is not zero."""
        axis, _ = self.axes(node)
        assert needed[0] is not None  # a call without any use is not asked
        vectors = needed[0].any(axis=axis, keepdims=True)
        read = needed[0] | (vectors & ~(values[0] == 0))
        if values[0].shape[axis] == 1:
            read = read.any(axis=axis, keepdims=True)
        return [whole_slices(read)]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        axis, _ = self.axes(node)
        assert read[0] is not None  # what would leave it out would leave out the call
        there = kept[0] if (whole_slices(kept[0]) == kept[0]).all() else read[0]
        present = expand(whole_slices(there | read[0]), axis, self.width(node))
        return [present], [present]


class LayerNormalization(AtEachPosition):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` at every position.

    With s = n' / n, and averages over the n' channels x that remain:
    mean = s average(x) and variance = s average((x - mean)^2) + (1 - s) mean^2.
    """

    def keeps_zero(self, node: Node) -> bool:
        return node.operation.beta is None and node.operation.gamma is not None

    def scale(self, node: Node) -> keras.Variable | None:
        return node.operation.gamma

    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        if getattr(node.operation, "rms_scaling", False):
            raise NoRule("it scales by the variance")
        return labels, self.label_affine(node, flow, labels, pruned)

    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        if getattr(node.operation, "rms_scaling", False):
            raise NoRule("it scales by the variance")
        return self.affine_constants(node, weights, values)

    def rebuild_vector(
        self,
        node: Node,
        weights: Weights,
        kept_in: Array,
        kept_out: Array,
        values: Array,
    ) -> Rebuilt:
        return exactly_normalized(
            node, self.cut_affine(node, weights, kept_in), kept_in, (-1,)
        )


class RMSNormalization(AtEachPosition):
    """`x / sqrt(average(x^2) + epsilon) * scale`: a stock layer is exact.

    With s = n' / n it has epsilon / s, and scale / sqrt(s).
    """

    def scale(self, node: Node) -> keras.Variable | None:
        return node.operation.scale

    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        flow.mix(Channels(labels, pruned), f"'{node.path}'")
        flow.member(node, node.operation.scale, 0, "scale", labels)
        return labels, np.where(labels >= 0, 0.0, np.nan)

    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        zero = (weights(node.operation.scale) == 0) | (values == 0)
        return np.where(zero, 0.0, np.nan)

    def rebuild_vector(
        self,
        node: Node,
        weights: Weights,
        kept_in: Array,
        kept_out: Array,
        values: Array,
    ) -> Rebuilt:
        layer, scale = node.operation, weights(node.operation.scale)
        if kept_in.all():
            return narrower(node)
        share = kept_in.mean()
        cut = (scale[kept_in] / math.sqrt(share)).astype(scale.dtype)
        return narrower(node, {"epsilon": layer.epsilon / share}, {"scale": cut})


class UnitNormalization(AtEachPosition):
    """`x / |x|`: zeros make no difference."""

    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        flow.mix(Channels(labels, pruned), f"'{node.path}'")
        return labels, np.where(labels >= 0, 0.0, np.nan)

    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        return np.where(values == 0, 0.0, np.nan)


class GroupNormalization(Normalization):
    """Groups of channels, each normalized over its channels and all positions.

    Whole groups go. A single group keeps its statistics as LayerNormalization does.
    """

    def axes(self, node: Node) -> tuple[int, int]:
        axis = node.operation.axis % len(node.inputs[0].shape)
        return axis, axis

    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        groups = node.operation.groups
        if groups > 1:
            rows = labels.reshape(groups, -1)
            flow.tie(rows, rows.max(axis=1, keepdims=True))
        return labels, self.label_affine(node, flow, labels, pruned)

    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        return self.affine_constants(node, weights, values)

    def need_vector(
        self, node: Node, weights: Weights, needed: Array, values: Array
    ) -> Array:
        if node.operation.groups == 1:
            return super().need_vector(node, weights, needed, values)
        return self._whole_groups(node, needed)

    def layout_vector(
        self, node: Node, kept: Array, needed: Array, read: Array
    ) -> tuple[Array, Array]:
        if node.operation.groups == 1:
            return super().layout_vector(node, kept, needed, read)
        read = self._whole_groups(node, read)
        return read, read

    @staticmethod
    def _whole_groups(node: Node, chosen: Array) -> Array:
        groups = chosen.reshape(node.operation.groups, -1)
        return np.broadcast_to(any_along(groups, 1)[:, None], groups.shape).ravel()

    def rebuild_vector(
        self,
        node: Node,
        weights: Weights,
        kept_in: Array,
        kept_out: Array,
        values: Array,
    ) -> Rebuilt:
        layer, new = node.operation, self.cut_affine(node, weights, kept_in)
        if layer.groups > 1:
            left = int(any_along(kept_in.reshape(layer.groups, -1), 1).sum())
            return narrower(node, {"groups": left}, new)
        rank = len(node.inputs[0].shape)
        if not kept_in.all() and self.axes(node)[0] != rank - 1:
            raise NoRule("its channels are not on the last axis")
        return exactly_normalized(node, new, kept_in, tuple(range(1, rank)))


class Standardized(Normalization):
    """What is left of a normalization that has lost channels, without its scale."""

    def axes(self, node: Node) -> tuple[int, int]:
        rank = len(node.inputs[0].shape)
        return rank - 1, rank - 1

    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        flow.mix(Channels(labels, pruned), f"'{node.path}'")
        return labels, np.full(labels.shape, np.nan)

    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        return np.full(values.shape, np.nan)

    def rebuild_vector(
        self,
        node: Node,
        weights: Weights,
        kept_in: Array,
        kept_out: Array,
        values: Array,
    ) -> Rebuilt:
        old = node.operation
        share = old.share * float(kept_in.mean())
        what = Standardize(share, old.epsilon, old.axes, old.name)

        def build(builder: Builder, inputs: NewTensors) -> Any:
            assert inputs[0] is not None
            return standardized(builder, what, inputs[0])

        return Rebuilt(build, {})
