"""Layers that a scale and a shift per channel can go into."""

from __future__ import annotations

import abc
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers

from pgmpf_tf.channels.arrays import Array

Changed: TypeAlias = tuple[dict[str, Any], dict[str, Array]]
"""Entries of a layer's configuration, and all its weights by attribute."""


class Affine(abc.ABC):
    """A layer that is linear but for its bias (and its activation).

    Attributes:
        pads: whether some of its outputs lack a part of the kernel (at a border, say),
            so that a constant added to its input is not one added to its output.
    """

    pads: bool = False

    @abc.abstractmethod
    def apply_before(self, scale: Array, shift: Array) -> None:
        """Changes the weights so that `x` gives what `scale x + shift` gave.

        Args:
            scale: float64 `(input channels,)`.
            shift: float64 `(input channels,)`.
        """

    @abc.abstractmethod
    def apply_after(self, scale: Array, shift: Array) -> None:
        """Changes the weights so that `y` becomes `scale y + shift`.

        Args:
            scale: float64 `(output channels,)`.
            shift: float64 `(output channels,)`.
        """

    @abc.abstractmethod
    def changed(self) -> Changed:
        """What differs in the layer now."""


class Normalization(Affine):
    """A BatchNormalization in inference: `scale x + shift`.

    Attributes:
        scale: float64 `(channels,)`.
        shift: float64 `(channels,)`.
    """

    def __init__(self, layer: layers.BatchNormalization) -> None:
        self._epsilon = layer.epsilon
        self._mean = _values(layer.moving_mean)
        self._variance = _values(layer.moving_variance)
        gamma = _values(layer.gamma) if layer.scale else 1.0
        beta = _values(layer.beta) if layer.center else 0.0
        self.scale = gamma / np.sqrt(self._variance + layer.epsilon)
        self.shift = beta - self._mean * self.scale

    def become(self, scale: Array, shift: Array) -> None:
        """From now on it scales by that, and adds that."""
        self.scale, self.shift = scale, shift

    def apply_before(self, scale: Array, shift: Array) -> None:
        """See `Affine`."""
        self.shift = self.shift + self.scale * shift
        self.scale = self.scale * scale

    def apply_after(self, scale: Array, shift: Array) -> None:
        """See `Affine`."""
        self.shift = scale * self.shift + shift
        self.scale = scale * self.scale

    def changed(self) -> Changed:
        """See `Affine`; one that only adds has no gamma, so that no factor is left."""
        if (self.scale == 1).all():
            variance = np.full_like(self.scale, 1 - self._epsilon)
            weights = {"moving_mean": -self.shift, "moving_variance": variance}
            return {"scale": False, "center": False}, weights
        weights = {
            "gamma": self.scale * np.sqrt(self._variance + self._epsilon),
            "beta": self.shift + self._mean * self.scale,
            "moving_mean": self._mean,
            "moving_variance": self._variance,
        }
        return {"scale": True, "center": True}, weights


class Kernel(Affine):
    """A layer with one kernel: dense, a convolution, a depthwise or transposed one.

    Args:
        layer: the layer.
        attribute: the name of the kernel.
        groups: how many parts of the channels it maps each by itself; None if the
            kernel's axes say it: input channels, and filters for each.
        swapped: whether the kernel's last axis is the inputs', not the outputs'.
        bias: the configuration that gives it a bias.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        attribute: str = "_kernel",
        groups: int | None = 1,
        swapped: bool = False,
        bias: dict[str, Any] | None = None,
    ) -> None:
        self._attribute, self._swapped = attribute, swapped
        self._with_bias = bias or {"use_bias": True}
        kernel = _values(getattr(layer, attribute))
        self._shape = kernel.shape
        # Places, input channels of a group, groups, filters of a group.
        kernel = np.swapaxes(kernel, -1, -2) if swapped else kernel
        if groups is None:
            kernel = np.expand_dims(kernel, -3)
        else:
            kernel = kernel.reshape(*kernel.shape[:-1], groups, -1)
        self._kernel = kernel.reshape(-1, *kernel.shape[-3:])
        given = getattr(layer, "bias", None)
        filters = self._kernel.shape[2] * self._kernel.shape[3]
        self._bias = np.zeros(filters) if given is None else _values(given)

    def apply_before(self, scale: Array, shift: Array) -> None:
        """See `Affine`."""
        groups = self._kernel.shape[2]
        scale, shift = (x.reshape(groups, -1).T for x in (scale, shift))
        self._bias = self._bias + np.einsum("pigo,ig->go", self._kernel, shift).ravel()
        self._kernel = self._kernel * scale[:, :, None]

    def apply_after(self, scale: Array, shift: Array) -> None:
        """See `Affine`."""
        self._kernel = self._kernel * scale.reshape(self._kernel.shape[2:])
        self._bias = scale * self._bias + shift

    def changed(self) -> Changed:
        """See `Affine`."""
        kernel = self._kernel
        if self._swapped:
            kernel = np.moveaxis(kernel, 1, -1)
        weights = {self._attribute: kernel.reshape(self._shape), "bias": self._bias}
        return self._with_bias, weights


class Separable(Affine):
    """A depthwise convolution, and a pointwise one right behind it."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        self._depthwise = _values(layer.depthwise_kernel)
        self._pointwise = _values(layer.pointwise_kernel)
        filters = self._pointwise.shape[-1]
        self._bias = np.zeros(filters) if layer.bias is None else _values(layer.bias)

    def apply_before(self, scale: Array, shift: Array) -> None:
        """See `Affine`."""
        places = tuple(range(self._depthwise.ndim - 2))
        constant = self._depthwise.sum(axis=places) * shift[:, None]
        matrix = self._pointwise.reshape(constant.size, -1)
        self._bias = self._bias + constant.ravel() @ matrix
        self._depthwise = self._depthwise * scale[:, None]

    def apply_after(self, scale: Array, shift: Array) -> None:
        """See `Affine`."""
        self._pointwise = self._pointwise * scale
        self._bias = scale * self._bias + shift

    def changed(self) -> Changed:
        """See `Affine`."""
        weights = {
            "depthwise_kernel": self._depthwise,
            "pointwise_kernel": self._pointwise,
            "bias": self._bias,
        }
        return {"use_bias": True}, weights


_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)


def affine_of(layer: keras.Operation) -> Affine | None:
    """The weights of a stock layer that is linear, channels last; None for others."""
    kind = type(layer)
    plain = not (
        getattr(layer, "lora_enabled", False)
        or getattr(layer, "quantization_mode", None)
        or getattr(layer, "data_format", "channels_last") == "channels_first"
    )
    if not plain:
        return None
    if kind is layers.BatchNormalization:
        last = layer.axis in (-1, layer.input_spec.ndim - 1)
        return Normalization(layer) if last else None
    if kind is layers.Dense:
        return Kernel(layer)
    if kind is layers.EinsumDense:
        return _einsum(layer)
    affine: Affine
    if kind in _CONVOLUTIONS:
        affine = Kernel(layer, groups=layer.groups)
    elif kind in _TRANSPOSED:
        affine = Kernel(layer, "kernel", swapped=True)
        # Its outputs are made of different parts of the kernel.
        affine.pads = {*layer.kernel_size, *layer.strides} != {1}
        return affine
    elif kind in _DEPTHWISE:
        affine = Kernel(layer, "kernel", groups=None)
    elif kind in _SEPARABLE:
        affine = Separable(layer)
    else:
        return None
    affine.pads = layer.padding != "valid" and set(layer.kernel_size) != {1}
    return affine


def _einsum(layer: layers.EinsumDense) -> Affine | None:
    """An EinsumDense that multiplies the last axis by a matrix."""
    operands, result = layer.equation.split("->")
    source, kernel = operands.split(",")
    plain = len(kernel) == 2 and source[-1] == kernel[0]
    if not plain or result != source[:-1] + kernel[1]:
        return None
    if layer.bias is not None and len(layer.bias.shape) != 1:
        return None
    return Kernel(layer, bias={"bias_axes": kernel[1]})


def _values(variable: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(variable), "float64")
