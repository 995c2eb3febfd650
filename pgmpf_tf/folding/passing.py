"""Operations that a scale and a shift per channel can go through."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import layers

from pgmpf_tf.channels.arrays import Array
from pgmpf_tf.channels.nodes import Node

_IDENTITIES = (
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)
_MEANS = (
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
)
"""What computes each value as a weighted mean of values of its channel."""

_MAXIMA = (
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
)
_PADDINGS = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
_ACTIVATIONS = (keras.activations.relu, keras.activations.leaky_relu)


def is_linear(operation: keras.Operation) -> bool:
    """Whether a layer has no activation."""
    activation = getattr(operation, "activation", None)
    return activation is None or activation is keras.activations.linear


def has_homogeneous_activation(layer: keras.Operation) -> bool:
    """Whether a layer's activation f has `f(s x) = s f(x)` for every s > 0."""
    return is_linear(layer) or layer.activation in _ACTIVATIONS


def passes(node: Node, scale: Array, shift: Array) -> bool:
    """Whether `f(scale x + shift) = scale f(x) + shift` for what a node computes.

    Args:
        node: a call.
        scale: `(channels,)`.
        shift: `(channels,)`.
    """
    operation, kind = node.operation, type(node.operation)
    if len(node.inputs) != 1 or len(node.outputs) != 1 or node.kwargs.get("training"):
        return False
    if getattr(operation, "data_format", "channels_last") == "channels_first":
        return False
    positive, none = bool((scale > 0).all()), not shift.any()
    if kind in _MEANS:
        return none or getattr(operation, "padding", "valid") != "same"
    if kind in _MAXIMA:
        return positive
    if kind in _PADDINGS:
        return none
    if kind in _IDENTITIES or (kind is layers.Activation and is_linear(operation)):
        return True
    return positive and none and _is_homogeneous(operation)


def _is_homogeneous(operation: keras.Operation) -> bool:
    """Whether an operation is an f of each value with `f(s x) = s f(x)` for s > 0."""
    kind = type(operation)
    if kind is layers.Activation:
        return operation.activation in _ACTIVATIONS
    if not kind.__module__.startswith("keras."):
        return False
    if kind.__name__ in ("ReLU", "Relu"):  # the layer's, and those of keras.ops
        largest = getattr(operation, "max_value", None)
        return largest is None and not getattr(operation, "threshold", 0.0)
    return kind.__name__ in ("LeakyReLU", "LeakyRelu", "PReLU")


def flattened(node: Node, vector: Array) -> Array | None:
    """What is per channel before a Flatten, behind it; None for other operations."""
    shape = node.inputs[0].shape[1:-1]
    operation = node.operation
    if type(operation) is not layers.Flatten or None in shape:
        return None
    if operation.data_format == "channels_first":
        return None
    return np.tile(vector, math.prod(size or 1 for size in shape))
