"""`compensate`: biases make up for what pruned filters put out in the mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras.src.layers.convolutional.base_conv import BaseConv

from pgmpf_tf._checks import check_type
from pgmpf_tf.backends.data import batches
from pgmpf_tf.scores.contributions import check_one_worker, check_repeatable
from pgmpf_tf.training.model import PrunedModel


def compensate(model: PrunedModel, data: Any) -> int:
    """Applies the masks, and adds to biases what pruned filters gave in the mean.

    A layer that reads a channel of mean m, with the slice W of its kernel, loses W m in
    the mean when the channel goes. Its bias gets that back (Y. An et al., "FLAP",
    AAAI 2024, equation 6). A channel that is the same for all samples is lost without
    any difference; so this goes well with `criteria.Variance`. It needs no training and
    no targets.

    Example:
        >>> criterion = pgmpf_tf.criteria.Variance(images)
        >>> model = pgmpf_tf.wrap(keras_model, rate=0.3, criterion=criterion)
        >>> pgmpf_tf.compensate(model, images)
        >>> small = pgmpf_tf.compact(model)

    The means are those of the network before its filters are zero. So call it once, and
    before `fit`; where the filters are zero already, it changes nothing. Padding of
    convolutions is taken to be like the rest. Layers without a bias stay: if a
    BatchNormalization follows them, `recalibrate` does as much for it.

    Args:
        model: a wrapped model. It is changed in place: Dense, EinsumDense and
            convolutions without groups, those with `trainable=False` too.
        data: as for `recalibrate`, but such that it can be gone through twice.

    Returns:
        How many layers' biases have changed.

    Raises:
        TypeError: if `model` is not a wrapped model.
        ValueError: if the data hold no batch, never end, or can be gone through only
            once, or means are NaN or infinite; the model is as it was. With several
            workers, too.
    """
    check_type("model", model, PrunedModel, "a model that pgmpf_tf.wrap returned")
    check_one_worker(model)
    check_repeatable("data", data)
    readers = [layer for layer in model._flatten_layers() if _has_bias_to_fill(layer)]
    before = _means(model, readers, data)
    for layer, mean in zip(readers, before, strict=True):
        if mean is not None and not np.isfinite(mean[0]).all():
            raise ValueError(
                f"What arrives at layer {layer.name!r} is NaN or infinite on these "
                "data. Are the data or the weights finite?"
            )
    kernels = [_kernel_of(layer) for layer in readers]
    model.apply_masks()
    after = _means(model, readers, data)
    changed = 0
    for layer, kernel, mean, now in zip(readers, kernels, before, after, strict=True):
        if mean is None or now is None:
            continue  # it was not called
        unread = _reads(layer, kernel) & ~_reads(layer, _kernel_of(layer))
        gone = np.where((now[1] == 0) | unread, mean[0], 0.0)
        if gone.any():
            layer.bias.assign(layer.bias + _through(layer, kernel, gone))
            changed += 1
    model._pruner.hold()  # the biases of filters that are gone themselves
    return changed


def _kernel_of(layer: keras.layers.Layer) -> np.ndarray:
    kernel: np.ndarray = keras.ops.convert_to_numpy(layer._kernel).astype("float64")
    return kernel


def _reads(layer: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    """Whether a kernel has anything for a channel: along its channel axes."""
    if isinstance(layer, keras.layers.EinsumDense):
        source, own, result = _letters(layer)
        summed = "".join(s for s in source if s in own and s not in result)
        found: np.ndarray = np.einsum(f"{own}->{summed}", kernel != 0)
        return found
    others = tuple(axis for axis in range(kernel.ndim) if axis != kernel.ndim - 2)
    return (kernel != 0).any(axis=others)


def _has_bias_to_fill(layer: keras.layers.Layer) -> bool:
    if getattr(layer, "lora_enabled", False) or layer.quantization_mode is not None:
        return False
    if getattr(layer, "bias", None) is None:
        return False
    if isinstance(layer, keras.layers.EinsumDense):
        made = {s for s in _letters(layer)[1] if s not in _letters(layer)[0]}
        return {*layer.bias_axes} == made and "." not in layer.equation
    one_group = isinstance(layer, BaseConv) and layer.groups == 1
    return one_group or isinstance(layer, keras.layers.Dense)


def _letters(layer: keras.layers.EinsumDense) -> tuple[str, str, str]:
    """The letters of its input, its kernel and its output."""
    operands, result = layer.equation.replace(" ", "").split("->")
    source, kernel = operands.split(",")
    return source, kernel, result


def _channel_axes(layer: keras.layers.Layer, rank: int) -> list[int]:
    """The axes of its input over which a layer sums up."""
    if isinstance(layer, keras.layers.EinsumDense):
        source, kernel, result = _letters(layer)
        return [a for a, s in enumerate(source) if s in kernel and s not in result]
    first = getattr(layer, "data_format", None) == "channels_first"
    return [1 if first else rank - 1]


def _through(layer: keras.layers.Layer, kernel: np.ndarray, x: np.ndarray) -> Any:
    """What a layer makes of an input that is the same everywhere, in its bias' shape.

    Args:
        layer: the layer.
        kernel: its kernel.
        x: along its channel axes.
    """
    if isinstance(layer, keras.layers.EinsumDense):
        source, own, result = _letters(layer)
        summed = "".join(s for s in source if s in own and s not in result)
        names = "".join(s for s in result if s in layer.bias_axes)
        y = np.einsum(f"{summed},{own}->{names}", x, kernel)
        return y.reshape(layer.bias.shape)
    return x @ kernel.sum(axis=tuple(range(kernel.ndim - 2)))


_Mean = tuple[np.ndarray, np.ndarray]
"""The mean of each channel, and its largest magnitude."""


def _means(
    model: keras.Model, layers: list[keras.layers.Layer], data: Any
) -> list[_Mean | None]:
    """Of what arrives at layers, over all samples, positions and calls."""
    seen: list[list[_Mean]] = [[] for _ in layers]
    counts: list[list[int]] = [[] for _ in layers]
    with contextlib.ExitStack() as stack:
        for place, layer in enumerate(layers):
            stack.enter_context(_watched(layer, seen[place], counts[place]))
        for x, _, _ in batches("data", data):
            model(x, training=False)
    found: list[_Mean | None] = []
    for calls, weights in zip(seen, counts, strict=True):
        if not calls:
            found.append(None)
            continue
        mean = np.average([mean for mean, _ in calls], axis=0, weights=weights)
        found.append((mean, np.max([largest for _, largest in calls], axis=0)))
    return found


@contextlib.contextmanager
def _watched(
    layer: keras.layers.Layer, seen: list[_Mean], counts: list[int]
) -> Iterator[None]:
    """Notes the moments of what a layer is called with."""
    own, call = vars(layer).get("call"), layer.call

    def watching(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        x = keras.ops.convert_to_numpy(keras.ops.cast(inputs, "float32"))
        channels = _channel_axes(layer, x.ndim)
        others = tuple(axis for axis in range(x.ndim) if axis not in channels)
        seen.append((x.mean(axis=others, dtype="float64"), abs(x).max(axis=others)))
        counts.append(len(x))
        return call(inputs, *args, **kwargs)

    # Not by setattr: Keras would track it.
    vars(layer)["call"] = watching
    try:
        yield
    finally:
        if own is None:
            del vars(layer)["call"]
        else:
            vars(layer)["call"] = own
