"""Layers with parameters of their own for every channel that passes through."""

from __future__ import annotations

import numpy as np

from pgmpf_tf.channels.arrays import Array, NoRule, any_along
from pgmpf_tf.channels.flow import Flow
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Sizes, positions
from pgmpf_tf.rules.channelwise import Channelwise, channel_axis
from pgmpf_tf.rules.elementwise import own_activation, pointwise
from pgmpf_tf.rules.rebuilding import Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights, evaluate


class PerChannel(Channelwise):
    """Multiplies each channel by a learned scale: LayerScale and its kin.

    Args:
        scale: the attribute of the layer that holds the scales, shape `(channels,)`.
        axis: the channel axis; None reads the layer's `data_format`.
    """

    def __init__(self, scale: str, axis: int | None = -1) -> None:
        self.scale, self.axis = scale, axis

    def axes(self, node: Node) -> tuple[int, int]:
        axis = channel_axis(node.operation) if self.axis is None else self.axis
        axis %= len(node.inputs[0].shape)
        return axis, axis

    def width(self, node: Node) -> int | None:
        return node.inputs[0].shape[self.axes(node)[0]]

    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        variable = getattr(node.operation, self.scale)
        if tuple(variable.shape) != (self.width(node),):
            raise NoRule("its scale is not one number per channel")
        flow.member(node, variable, 0, "scale", labels)
        return labels, np.where(labels >= 0, 0.0, pruned * np.nan)

    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        zero = (weights(getattr(node.operation, self.scale)) == 0) | (values == 0)
        return np.where(zero, 0.0, np.nan)

    def rebuild_vector(
        self,
        node: Node,
        weights: Weights,
        kept_in: Array,
        kept_out: Array,
        values: Array,
    ) -> Rebuilt:
        scale = weights(getattr(node.operation, self.scale))[kept_in]
        config = {}
        if "projection_dim" in node.operation.get_config():
            config["projection_dim"] = len(scale)
        return narrower(node, config, {self.scale: scale})


class BatchNormalization(Channelwise):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, channel by channel.

    With gamma and beta zero a channel is zero whatever comes in. A layer without
    gamma gives zero where its input, its beta and its moving mean are zero.
    """

    def axes(self, node: Node) -> tuple[int, int]:
        axis = node.operation.axis % len(node.inputs[0].shape)
        return axis, axis

    def width(self, node: Node) -> int | None:
        return node.operation.moving_mean.shape[0]

    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        layer = node.operation
        if layer.scale:
            flow.member(node, layer.gamma, 0, "scale", labels)
            zero = labels >= 0
        else:
            flow.member(node, layer.moving_mean, 0, "mean", labels)
            zero = (labels >= 0) & (pruned == 0)
        if layer.center:
            flow.member(node, layer.beta, 0, "offset", labels)
        elif layer.scale is False and node.kwargs.get("training"):
            zero = np.zeros_like(zero)
        return labels, np.where(zero, 0.0, np.nan)

    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        layer = node.operation
        gamma = weights(layer.gamma) if layer.scale else np.ones(values.shape)
        beta = weights(layer.beta) if layer.center else np.zeros(values.shape)
        if node.kwargs.get("training"):
            return np.where(gamma == 0, beta, np.nan)
        variance = weights(layer.moving_variance).astype("float64")
        scale = gamma / np.sqrt(variance + layer.epsilon)
        result = (values - weights(layer.moving_mean)) * scale + beta
        return np.where(gamma == 0, beta, result)

    def rebuild_vector(
        self,
        node: Node,
        weights: Weights,
        kept_in: Array,
        kept_out: Array,
        values: Array,
    ) -> Rebuilt:
        layer = node.operation
        names = ["moving_mean", "moving_variance"]
        names += ["gamma"] * layer.scale + ["beta"] * layer.center
        new = {name: weights(getattr(layer, name))[kept_in] for name in names}
        return narrower(node, weights=new)


class DepthwiseConv(Channelwise):
    """Every channel is convolved by itself, `depth_multiplier` times."""

    def axes(self, node: Node) -> tuple[int, int]:
        axis = channel_axis(node.operation) % len(node.inputs[0].shape)
        return axis, axis

    def width(self, node: Node) -> int | None:
        return node.operation.kernel.shape[-2]

    def label_vector(
        self, node: Node, flow: Flow, labels: Array, pruned: Array
    ) -> tuple[Array, Array]:
        layer = node.operation
        function = pointwise(layer.activation)
        flow.member(node, layer.kernel, -2, "kernel", labels)
        out = np.repeat(labels, layer.depth_multiplier)
        if layer.use_bias:
            flow.member(node, layer.bias, 0, "bias", out)
        value = evaluate(function, np.zeros(1))[0]
        return out, np.where(out >= 0, value, np.nan)

    def constant_vector(self, node: Node, weights: Weights, values: Array) -> Array:
        layer = node.operation
        used = weights.connections(layer.kernel, -2, -1)
        zero = (~used | (values == 0)[:, None]).ravel()
        bias = weights(layer.bias) if layer.use_bias else np.zeros(zero.size)
        result = np.where(zero, bias.astype("float64"), np.nan)
        return evaluate(pointwise(layer.activation), result)

    def need_vector(
        self, node: Node, weights: Weights, needed: Array, values: Array
    ) -> Array:
        return any_along(needed.reshape(-1, node.operation.depth_multiplier), 1)

    def layout_vector(
        self, node: Node, kept: Array, needed: Array, read: Array
    ) -> tuple[Array, Array]:
        return kept, np.repeat(kept, node.operation.depth_multiplier)

    def rebuild_vector(
        self,
        node: Node,
        weights: Weights,
        kept_in: Array,
        kept_out: Array,
        values: Array,
    ) -> Rebuilt:
        layer = node.operation
        new = {"kernel": weights(layer.kernel)[..., kept_in, :]}
        if layer.use_bias:
            new["bias"] = weights(layer.bias)[kept_out]
        return narrower(node, weights=new, activation=own_activation(layer))

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        return positions(sizes.outputs[0], self.axes(node)[1]) * sizes.weight("kernel")
