"""Layers with parameters of their own for every channel that passes through."""

from __future__ import annotations

import numpy as np

from pgmpf_tf.channels.slots import NoRule
from pgmpf_tf.rules.base import Call, Channelwise, channel_axis, evaluate, values_of
from pgmpf_tf.rules.elementwise import pointwise


class PerChannel(Channelwise):
    """Multiplies each channel by a learned scale: LayerScale and its kin.

    Args:
        scale: the attribute of the layer that holds the scales, shape `(channels,)`.
        axis: the channel axis; None reads the layer's `data_format`.
    """

    def __init__(self, scale: str, axis: int | None = -1):
        self.scale, self.axis = scale, axis

    def axes(self, node):
        axis = channel_axis(node.operation) if self.axis is None else self.axis
        axis %= len(node.inputs[0].shape)
        return axis, axis

    def width(self, node):
        return node.inputs[0].shape[self.axes(node)[0]]

    def label_vector(self, node, flow, labels, pruned):
        variable = getattr(node.operation, self.scale)
        if tuple(variable.shape) != (self.width(node),):
            raise NoRule("its scale is not one number per channel")
        flow.member(node.operation, variable, 0, "scale", labels)
        return labels, np.where(labels >= 0, 0.0, pruned * np.nan)

    def constant_vector(self, node, values):
        zero = (values_of(getattr(node.operation, self.scale)) == 0) | (values == 0)
        return np.where(zero, 0.0, np.nan)

    def rebuild_vector(self, node, kept_in, kept_out):
        scale = values_of(getattr(node.operation, self.scale))[kept_in]
        config = {}
        if "projection_dim" in node.operation.get_config():
            config["projection_dim"] = len(scale)
        return Call(config=config, weights={self.scale: scale})


class BatchNormalization(Channelwise):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, channel by channel.

    With gamma and beta zero a channel is zero whatever comes in. A layer without
    gamma is silent where its input, its beta and its moving mean are zero.
    """

    def axes(self, node):
        axis = node.operation.axis % len(node.inputs[0].shape)
        return axis, axis

    def width(self, node):
        return node.operation.moving_mean.shape[0]

    def label_vector(self, node, flow, labels, pruned):
        layer = node.operation
        if layer.scale:
            flow.member(layer, layer.gamma, 0, "scale", labels)
            silent = labels >= 0
        else:
            flow.member(layer, layer.moving_mean, 0, "mean", labels)
            silent = (labels >= 0) & (pruned == 0)
        if layer.center:
            flow.member(layer, layer.beta, 0, "offset", labels)
        elif layer.scale is False and node.kwargs.get("training"):
            silent = np.zeros_like(silent)
        return labels, np.where(silent, 0.0, np.nan)

    def constant_vector(self, node, values):
        layer = node.operation
        gamma = values_of(layer.gamma) if layer.scale else np.ones(values.shape)
        beta = values_of(layer.beta) if layer.center else np.zeros(values.shape)
        if node.kwargs.get("training"):
            return np.where(gamma == 0, beta, np.nan)
        variance = values_of(layer.moving_variance).astype("float64")
        scale = gamma / np.sqrt(variance + layer.epsilon)
        result = (values - values_of(layer.moving_mean)) * scale + beta
        return np.where(gamma == 0, beta, result)

    def rebuild_vector(self, node, kept_in, kept_out):
        names = ["moving_mean", "moving_variance"]
        names += ["gamma"] * node.operation.scale + ["beta"] * node.operation.center
        return Call(
            weights={n: values_of(getattr(node.operation, n))[kept_in] for n in names}
        )


class DepthwiseConv(Channelwise):
    """Every channel is convolved by itself, `depth_multiplier` times."""

    def axes(self, node):
        axis = channel_axis(node.operation) % len(node.inputs[0].shape)
        return axis, axis

    def width(self, node):
        return node.operation.kernel.shape[-2]

    def label_vector(self, node, flow, labels, pruned):
        layer = node.operation
        function = pointwise(layer.activation)
        flow.member(layer, layer.kernel, -2, "kernel", labels)
        out = np.repeat(labels, layer.depth_multiplier)
        if layer.use_bias:
            flow.member(layer, layer.bias, 0, "bias", out)
        silent = evaluate(function, np.zeros(1))[0]
        return out, np.where(out >= 0, silent, np.nan)

    def constant_vector(self, node, values):
        layer = node.operation
        kernel = values_of(layer.kernel)
        zero = ~kernel.any(axis=tuple(range(kernel.ndim - 2))) | (values == 0)[:, None]
        bias = values_of(layer.bias) if layer.use_bias else np.zeros(zero.size)
        result = np.where(zero.ravel(), bias.astype("float64"), np.nan)
        return evaluate(pointwise(layer.activation), result)

    def need_vector(self, node, needed, values):
        return needed.reshape(-1, node.operation.depth_multiplier).any(axis=1)

    def layout_vector(self, node, kept, needed, read):
        return kept, np.repeat(kept, node.operation.depth_multiplier)

    def rebuild_vector(self, node, kept_in, kept_out):
        layer = node.operation
        weights = {"kernel": values_of(layer.kernel)[..., kept_in, :]}
        if layer.use_bias:
            weights["bias"] = values_of(layer.bias)[kept_out]
        return Call(weights=weights)
