"""Mean compensation: biases make up for what pruned channels gave on average."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

_KINDS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Dense,
)
_BATCH = 16


def compensate(
    dense: keras.Model,
    pruned: keras.Model,
    data: Any,
    tick: Callable[[], None] = lambda: None,
) -> int:
    """Moves biases so that every layer's outputs have the dense network's means.

    Layer after layer, in graph order, since each changes what the next one sees:

        bias += mean of the dense layer's sums - mean of the pruned layer's sums

    per filter, both before the activation (M. Nagel et al., "Data-Free Quantization
    Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, for the
    error of pruning instead of that of rounding). Filters that are pruned stay zero.

    Args:
        dense: the network before.
        pruned: a network of the same layers, with filters that are zero. Its biases
            are changed.
        data: inputs in the structure that the networks take.
        tick: called after each layer.

    Returns:
        How many layers were changed.
    """
    pairs = [
        (dense.get_layer(layer.name), layer)
        for layer in pruned.layers
        if type(layer) in _KINDS
        and layer.use_bias
        and getattr(layer, "data_format", "channels_last") == "channels_last"
    ]
    for before, after in pairs:
        shift = _mean_sums(dense, before, data) - _mean_sums(pruned, after, data)
        kernel = keras.ops.convert_to_numpy(after.kernel)
        alive = (kernel != 0).any(axis=tuple(range(kernel.ndim - 1)))
        bias = keras.ops.convert_to_numpy(after.bias)
        after.bias.assign(np.where(alive, bias + shift, bias))
        tick()
    return len(pairs)


def _mean_sums(model: keras.Model, layer: keras.layers.Layer, data: Any) -> np.ndarray:
    """The mean of each filter before the activation, shape `(filters,)`."""
    part = keras.Model(model.inputs, layer.output)
    activation, total, count = layer.activation, 0.0, 0
    layer.activation = keras.activations.linear
    try:
        for batch in _batches(data):
            sums = keras.ops.convert_to_numpy(part(batch, training=False))
            sums = sums.reshape(-1, sums.shape[-1]).astype("float64")
            total, count = total + sums.sum(axis=0), count + len(sums)
    finally:
        layer.activation = activation
    return np.asarray(total / count)


def _batches(data: Any) -> Iterator[list[np.ndarray]]:
    flat = keras.tree.flatten(data)
    for start in range(0, len(flat[0]), _BATCH):
        yield [array[start : start + _BATCH] for array in flat]
