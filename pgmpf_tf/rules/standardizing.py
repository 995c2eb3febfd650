"""What normalizes narrow tensors by the statistics of wide ones, in stock Keras."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from pgmpf_tf.channels.arrays import Array, NoRule
from pgmpf_tf.channels.folding import Standardize
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import count
from pgmpf_tf.rules.rebuilding import Builder, NewTensors, Rebuilt, narrower


def exactly_normalized(
    node: Node, weights: dict[str, Array], kept: Array, axes: tuple[int, ...]
) -> Rebuilt:
    """A normalization by the mean and the variance of the tensor as it was.

    Args:
        node: the call of the layer.
        weights: what is left of its gamma and beta.
        kept: the channels that are left, along the last axis.
        axes: the axes that share a mean and a variance.

    Raises:
        NoRule: stock Keras has no layer that scales each channel of such a tensor.
    """
    layer, rank = node.operation, len(node.inputs[0].shape)
    if kept.all():
        return narrower(node, weights=weights)
    if "gamma" not in weights:
        raise NoRule("it has no scale")
    if rank not in _SCALES:
        raise NoRule(f"a tensor of rank {rank}")
    statistics = Standardize(float(kept.mean()), layer.epsilon, axes, layer.name)

    def build(builder: Builder, inputs: NewTensors) -> Any:
        (x,) = inputs
        assert x is not None
        dtype = x.dtype
        if dtype in ("float16", "bfloat16"):  # as the layer itself does
            x = builder.named(ops.cast(x, "float32"), f"{layer.name}_cast")
        x = standardized(builder, statistics, x)
        if x.dtype != dtype:
            x = builder.named(ops.cast(x, dtype), f"{layer.name}_cast")
        return _scaled(builder, node, x)

    rest = (node.inputs[0].size or node.inputs[0].shape)[1:-1]
    macs = None if None in rest else count(rest) * int(kept.sum())
    return Rebuilt(build, weights, macs)


def standardized(
    builder: Builder, what: Standardize, x: keras.KerasTensor
) -> keras.KerasTensor:
    """`pgmpf_tf.channels.folding.fold_standardized` recognizes it."""

    def named(x: keras.KerasTensor, part: str) -> keras.KerasTensor:
        return builder.named(x, f"{what.name}_{part}")

    mean = named(ops.mean(x, what.axes, keepdims=True), "mean")
    mean = named(ops.multiply(mean, what.share), "mean")
    x = named(ops.subtract(x, mean), "centered")
    squares = ops.mean(named(ops.square(x), "square"), what.axes, keepdims=True)
    squares = named(squares, "squares")
    squares = named(ops.multiply(squares, what.share), "squares")
    # Keras makes a BiasAdd of some additions, which fails in TFLite at batch 1.
    zeros = named(
        ops.multiply(named(ops.square(mean), "square"), what.share - 1), "zeros"
    )
    variance = named(ops.subtract(squares, zeros), "variance")
    variance = named(ops.subtract(variance, -what.epsilon), "variance")
    return named(ops.multiply(x, named(ops.rsqrt(variance), "rsqrt")), "normalized")


_SCALES = {
    2: keras.layers.DepthwiseConv1D,
    3: keras.layers.DepthwiseConv1D,
    4: keras.layers.DepthwiseConv2D,
}
"""By the rank of a tensor: what multiplies each channel by a weight, and adds one.

A depthwise convolution of size 1 is the only stock layer that does, also in training,
and that all formats of export know.
"""


def _scaled(builder: Builder, node: Node, x: Any) -> Any:
    layer = node.operation
    names = {"kernel": "gamma"} | ({"bias": "beta"} if layer.beta is not None else {})
    scale = builder.layer(
        node,
        _SCALES[len(x.shape)],
        {
            "kernel_size": 1,
            "use_bias": layer.beta is not None,
            "data_format": "channels_last",
            "dtype": layer.dtype_policy,
            "trainable": layer.trainable,
        },
        names,
    )
    if len(x.shape) > 2:
        return scale(x)
    x = scale(builder.named(ops.expand_dims(x, 1), f"{layer.name}_expanded"))
    return builder.named(ops.squeeze(x, 1), f"{layer.name}_squeezed")
