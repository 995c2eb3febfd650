"""Layers whose every output channel is a weighted sum over input channels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array, NoRule, any_along
from pgmpf_tf.channels.flow import Channels, Flow
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Sizes, positions
from pgmpf_tf.rules.channelwise import Channelwise, channel_axis
from pgmpf_tf.rules.elementwise import own_activation, pointwise
from pgmpf_tf.rules.rebuilding import Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights, evaluate


class Mixing(Channelwise):
    """Convolutions and dense layers, and layers of one's own that are like them.

    A layer of one's own may have a `bias`, shape `(filters,)`, an `activation` and
    `groups`; it needs none of them.

    Args:
        units: the configuration entry that holds the number of filters.
        kernel: the attribute that holds the kernel.
        axis_in, axis_out: the kernel's axes of input channels and filters.
    """

    def __init__(
        self, units: str, kernel: str = "_kernel", axis_in: int = -2, axis_out: int = -1
    ) -> None:
        self.units, self.kernel = units, kernel
        self.axis_in, self.axis_out = axis_in, axis_out

    def axes(self, node: Node) -> tuple[int, int]:
        axis = channel_axis(node.operation) if self.units == "filters" else -1
        return axis % len(node.inputs[0].shape), axis % len(node.outputs[0].shape)

    def groups(self, layer: keras.layers.Layer) -> int:
        return getattr(layer, "groups", 1)

    def kernel_of(self, layer: keras.layers.Layer) -> keras.Variable:
        return whole_kernel(layer, self.kernel)

    def reader(self, layer: keras.layers.Layer) -> tuple[keras.Variable, int]:
        """The variable that the input channels meet first, and its axis of them."""
        return self.kernel_of(layer), self.axis_in

    def width(self, node: Node) -> int | None:
        layer = node.operation
        return self.kernel_of(layer).shape[self.axis_in] * self.groups(layer)

    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        layer = node.operation
        kernel = self.kernel_of(layer)
        groups = self.groups(layer)
        self._let_read(node, flow, Channels(labels, pruned), groups)
        flow.tie_calls(kernel, labels)
        out = flow.filters(node, kernel, self.axis_out)
        if bias_of(layer) is not None:
            flow.member(node, layer.bias, -1, "bias", out)
        if groups > 1:
            self._tie_groups(flow, labels, out, groups)
        try:
            value = evaluate(activation_of(layer), np.zeros(1))[0]
        except NoRule as error:
            flow.pin(out, str(error))
            value = np.nan
        return out, np.full(out.shape, value)

    def _let_read(self, node: Node, flow: Flow, read: Channels, groups: int) -> None:
        name, constants = f"'{node.path}'", self.folds(node)
        if groups == 1:
            kernel, axis = self.reader(node.operation)
            flow.read(node, kernel, axis, read, constants=constants)
        elif self._go_as_wholes(len(read.labels), groups):
            flow.read_by_zeros(read, name)  # the filters that read it go as well
        else:
            flow.mix(read, name, constants=constants)

    @staticmethod
    def _go_as_wholes(channels: int, groups: int) -> bool:
        return groups >= channels // groups

    @staticmethod
    def _tie_groups(flow: Flow, labels: Array, out: Array, groups: int) -> None:
        """Groups stay equally wide, or go as wholes where that is the finer choice."""
        ins, outs = labels.reshape(groups, -1), out.reshape(groups, -1)
        if Mixing._go_as_wholes(len(labels), groups):
            flow.tie(ins, ins[:, :1])
            flow.tie(outs, outs[:, :1])
            flow.tie(ins[:, :1], outs[:, :1])
        else:
            flow.tie(ins, ins[:1])
            flow.tie(outs, outs[:1])

    def folds(self, node: Node) -> bool:
        """Whether constant input channels can become a part of the bias.

        They can where all positions read the same: without padding, or if the kernel
        is of size 1. All calls of a shared layer have one bias.
        """
        layer = node.operation
        if node.shared or not (
            bias_of(layer) is not None or hasattr(layer, "use_bias")
        ):
            return False
        size = getattr(layer, "kernel_size", (1,))
        return set(size) == {1} or getattr(layer, "padding", "") == "valid"

    def _read(self, node: Node, values: Array) -> Array:
        """Which input channels must be there: the others are zero, or fold."""
        return np.isnan(values) if self.folds(node) else ~(values == 0)

    def _folded(
        self, node: Node, weights: Weights, values: Array, chosen: Array
    ) -> Array:
        """What constant input channels add to each filter.

        Args:
            node: the call.
            weights: reads weights.
            values: known constant values of the inputs.
            chosen: the inputs that count.

        Returns:
            float64, shape `(filters,)`.
        """
        kernel = weights(self.kernel_of(node.operation))
        groups = self.groups(node.operation)
        kernel = np.moveaxis(kernel, (self.axis_in, self.axis_out), (-2, -1))
        matrix = kernel.sum(axis=tuple(range(kernel.ndim - 2)), dtype="float64")
        matrix = matrix.reshape(matrix.shape[0], groups, -1)
        known = np.where(chosen, values, 0.0).reshape(groups, -1)
        return np.einsum("gi,igo->go", known, matrix).ravel()

    def connections(self, node: Node, weights: Weights) -> Array:
        """bool, (inputs per group, groups, filters per group): a weight is not zero."""
        layer = node.operation
        matrix = weights.connections(self.kernel_of(layer), self.axis_in, self.axis_out)
        return matrix.reshape(len(matrix), self.groups(layer), -1)

    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        layer, connections = node.operation, self.connections(node, weights)
        alive = self._read(node, values).reshape(connections.shape[1], -1)
        fed = np.einsum("gi,igo->go", alive, connections, dtype=bool).ravel()
        if fed.all():
            return np.full(fed.shape, np.nan)
        bias = bias_of(layer)
        known = np.zeros(fed.shape) if bias is None else weights(bias)
        folded = self.folds(node) & ~np.isnan(values) & (values != 0)
        if folded.any():
            known = known + self._folded(node, weights, values, folded)
        try:
            activation = activation_of(layer)
        except NoRule:
            return np.full(fed.shape, np.nan)
        return evaluate(activation, np.where(fed, np.nan, known.astype("float64")))

    def need_vector(
        self, node: Node, weights: Weights, needed: Array, values: Array
    ) -> Array:
        connections = self.connections(node, weights)
        needed = self._filters(node, needed).reshape(connections.shape[1:])
        alive = self._read(node, values).reshape(connections.shape[1], -1)
        used = np.einsum("go,igo->gi", needed, connections, dtype=bool) & alive
        return _level(used, any_along(needed, 1)).ravel()

    def _filters(self, node: Node, needed: Array) -> Array:
        try:
            activation_of(node.operation)
        except NoRule:  # it looks across channels, and needs all of them
            return np.ones_like(needed)
        groups = needed.reshape(self.groups(node.operation), -1)
        return _level(groups, any_along(groups, 1)).ravel()

    def layout_vector(
        self, node: Node, kept: Array, needed: Array, read: Array
    ) -> tuple[Array, Array]:
        groups, out = self.groups(node.operation), self._filters(node, needed)
        if groups > 1:
            alive = any_along(out.reshape(groups, -1), 1)
            kept = _level(read.reshape(groups, -1), alive).ravel()
        return kept, out

    def rebuild_vector(
        self,
        node: Node,
        weights: Weights,
        kept_in: Array,
        kept_out: Array,
        values: Array,
    ) -> Rebuilt:
        layer = node.operation
        kernel = weights(self.kernel_of(layer))
        groups = self.groups(layer)
        config: dict[str, Any] = {self.units: int(kept_out.sum())}
        if groups > 1:
            ins, outs = kept_in.reshape(groups, -1), kept_out.reshape(groups, -1)
            pieces = np.split(kernel, groups, axis=self.axis_out)
            kernel = np.concatenate(
                [
                    self._cut(piece, chosen_in, chosen_out)
                    for piece, chosen_in, chosen_out in zip(
                        pieces, ins, outs, strict=True
                    )
                    if chosen_out.any()
                ],
                axis=self.axis_out,
            )
            config["groups"] = int(outs.any(axis=1).sum())
        else:
            kernel = self._cut(kernel, kept_in, kept_out)
        new = {self.kernel: kernel}
        self.add_bias(node, weights, (kept_in, kept_out, values), config, new)
        return narrower(node, config, new, activation=own_activation(layer))

    def add_bias(
        self,
        node: Node,
        weights: Weights,
        cut: tuple[Array, Array, Array],
        config: dict[str, Any],
        new: dict[str, Array],
    ) -> None:
        """Adds the bias to the answer, with the constant channels that have gone.

        Args:
            node: the call.
            weights: reads weights.
            cut: what is kept of the inputs and of the outputs, and the inputs' values.
            config: the new configuration; changed.
            new: the new weights; changed.
        """
        layer, (kept_in, kept_out, values) = node.operation, cut
        bias = None if bias_of(layer) is None else weights(layer.bias)
        gone = ~kept_in & ~np.isnan(values) & (values != 0)
        if self.folds(node) and gone.any():
            kernel = weights(self.kernel_of(layer))
            folded = self._folded(node, weights, values, gone)
            bias = (folded if bias is None else bias + folded).astype(kernel.dtype)
            if bias_of(layer) is None:
                config["use_bias"] = True
        if bias is not None:
            new["bias"] = bias[..., kept_out]

    def _cut(self, kernel: Array, kept_in: Array, kept_out: Array) -> Array:
        if not kept_in.all():
            kernel = np.compress(kept_in, kernel, axis=self.axis_in)
        if not kept_out.all():
            kernel = np.compress(kept_out, kernel, axis=self.axis_out)
        return kernel

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        return positions(sizes.outputs[0], self.axes(node)[1]) * sizes.weight(
            self.kernel
        )


def whole_kernel(layer: keras.layers.Layer, kernel: str = "_kernel") -> keras.Variable:
    """The kernel of a layer, if it is all that the layer multiplies by.

    Raises:
        NoRule: it is not.
    """
    if getattr(layer, "lora_enabled", False):
        raise NoRule("it has LoRA weights")
    if getattr(layer, "quantization_mode", None) is not None:
        raise NoRule("its weights are quantized")
    return getattr(layer, kernel)


def bias_of(layer: keras.layers.Layer) -> keras.Variable | None:
    """The bias of a layer, if it has one."""
    return getattr(layer, "bias", None)


def activation_of(layer: keras.layers.Layer) -> Any:
    """The activation of a layer, if it treats every value by itself.

    Raises:
        NoRule: it does not, or nobody knows.
    """
    return pointwise(getattr(layer, "activation", None))


def _level(chosen: Array, alive: Array) -> Array:
    """Choose as many in every living group (row) as in the fullest, none elsewhere."""
    if len(chosen) == 1:
        return chosen
    number = max(1, int(chosen[alive].sum(axis=1).max(initial=0)))
    order = np.argsort(~chosen, axis=1, kind="stable")
    result = np.zeros_like(chosen)
    np.put_along_axis(result, order[:, :number], True, axis=1)
    return result & alive[:, None]


class TransposedConv(Mixing):
    """Transposed convolutions: each position of the input meets the whole kernel."""

    def __init__(self) -> None:
        super().__init__("filters", "kernel", -1, -2)

    def folds(self, node: Node) -> bool:
        return False  # positions at the edges meet fewer weights

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        return positions(sizes.inputs[0], self.axes(node)[0]) * sizes.weight("kernel")


class SeparableConv(Mixing):
    """A depthwise convolution, then a pointwise one, without anything between."""

    def __init__(self) -> None:
        super().__init__("filters", "pointwise_kernel")

    def reader(self, layer: keras.layers.Layer) -> tuple[keras.Variable, int]:
        return layer.depthwise_kernel, -2

    def width(self, node: Node) -> int | None:
        return node.operation.depthwise_kernel.shape[-2]

    def connections(self, node: Node, weights: Weights) -> Array:
        layer = node.operation
        # (in, times): whether anything passes the depthwise convolution
        used = weights.connections(layer.depthwise_kernel, -2, -1)
        matrix = weights.connections(layer.pointwise_kernel, -2, -1)
        matrix = matrix.reshape(*used.shape, -1)
        return any_along(matrix & used[..., None], 1)[:, None]

    def folds(self, node: Node) -> bool:
        return False

    def rebuild_vector(
        self,
        node: Node,
        weights: Weights,
        kept_in: Array,
        kept_out: Array,
        values: Array,
    ) -> Rebuilt:
        layer = node.operation
        rows = np.repeat(kept_in, layer.depth_multiplier)
        pointwise_kernel = weights(layer.pointwise_kernel)
        new = {
            "depthwise_kernel": weights(layer.depthwise_kernel)[..., kept_in, :],
            "pointwise_kernel": self._cut(pointwise_kernel, rows, kept_out),
        }
        config: dict[str, Any] = {"filters": int(kept_out.sum())}
        self.add_bias(node, weights, (kept_in, kept_out, values), config, new)
        return narrower(node, config, new, activation=own_activation(layer))

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        names = ("depthwise_kernel", "pointwise_kernel")
        each = sum(sizes.weight(name) for name in names)
        return positions(sizes.outputs[0], self.axes(node)[1]) * each
