"""`recalibrate`: BatchNorm statistics for the network as it is now."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from pgmpf_tf._checks import check_integer, check_type
from pgmpf_tf.backends import current as backend
from pgmpf_tf.backends.data import batches

# The number of values, their mean and their variance, per channel.
_Moments = tuple[Any, Any, Any]


def recalibrate(model: keras.Model, data: Any, *, batches: int | None = None) -> None:
    """Measures the moving mean and variance of every BatchNormalization anew.

    After filters are pruned, what arrives at the layers behind them is distributed
    otherwise than the statistics from training say. Without any training, this repairs
    much of what one-shot pruning breaks. Weights stay as they are, and so do filters
    that are zero.

    Example:
        >>> model = pgmpf_tf.wrap(keras_model, rate=0.3)
        >>> model.apply_masks()
        >>> pgmpf_tf.recalibrate(model, images)
        >>> small = pgmpf_tf.compact(model)

    The new statistics are those of all batches pooled, whatever the momentum: with
    n_b values per channel in batch b, their mean m_b and variance v_b, and N the sum of
    all n_b,

        mean = sum_b n_b m_b / N
        variance = sum_b n_b (v_b + (m_b - mean)^2) / N

    (Y. Wu and J. Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3). Each
    batch is normalized by its own statistics on its way through the network, as in
    training; all other layers run as in `predict`, without dropout. Use batches as
    large as in training.

    Args:
        model: any built Keras model, wrapped, compacted or plain. It is changed in
            place. Layers with `trainable=False` are measured too. Without
            BatchNormalization there is nothing to do.
        data: what `fit` takes as `x`, with targets or without, which are not used:
            arrays (32 samples make a batch), `(x, y)`, a `tf.data.Dataset`, a
            `PyDataset` or a generator. Some hundred to some thousand samples are
            enough.
        batches: how many batches to use at most; all if None.

    Raises:
        TypeError: if `model` is not a Keras model, or `batches` not an integer.
        ValueError: if the model is not built, the data hold no batch or never end,
            `batches` is below 1, or statistics are NaN or infinite. Whatever is
            raised, also by the data halfway, the model is as it was.
    """
    layers = _checked(model, batches)
    if not layers:
        return
    statistics = [_Statistics(layer) for layer in layers]
    _run(model, data, batches, statistics)
    for mean, variance, layer in [(*s.result(), s.layer) for s in statistics]:
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)


class _Statistics:
    """Mean and variance of what arrives at a layer, over all its calls.

    In double precision, updated as T. Chan, G. Golub and R. LeVeque do (1979): the
    difference of large sums would lose the variance.
    """

    def __init__(self, layer: keras.layers.BatchNormalization) -> None:
        self.layer = layer
        shape = tuple(layer.moving_mean.shape)
        self._count, self._mean, self._squares = np.zeros((3, *shape))

    def add(self, count: Any, mean: Any, variance: Any) -> None:
        """Takes in a batch of `count` values per channel."""
        count, mean, variance = (
            keras.ops.convert_to_numpy(value).astype(np.float64)
            for value in (count, mean, variance)
        )
        # A batch may be masked altogether.
        total = np.maximum(self._count + count, 1.0)
        distance = mean - self._mean
        self._squares += count * (variance + distance**2 * (self._count / total))
        self._mean += distance * (count / total)
        self._count += count

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance; those that the layer has if nothing has arrived.

        Raises:
            ValueError: if they are not finite.
        """
        if not self._count.any():
            return _value(self.layer.moving_mean), _value(self.layer.moving_variance)
        mean, variance = self._mean, self._squares / self._count
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            raise ValueError(
                f"The statistics of layer {self.layer.name!r} are NaN or infinite on "
                "these data. All statistics are as they were. Are the data or the "
                "weights finite?"
            )
        return mean, variance


def _value(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable)


def _run(
    model: keras.Model,
    data: Any,
    limit: int | None,
    statistics: list[_Statistics],
) -> None:
    takes_training = "training" in inspect.signature(model.call).parameters
    options = {"training": False} if takes_training else {}

    def moments(x: Any) -> list[list[_Moments]]:
        seen: list[list[_Moments]] = [[] for _ in statistics]
        with contextlib.ExitStack() as stack:
            for each, calls in zip(statistics, seen, strict=True):
                stack.enter_context(_observed(each.layer, calls))
            model(x, **options)
        return seen

    run = backend.compiled(moments, model.variables)
    for x, _, _ in batches("data", data, limit):
        for each, calls in zip(statistics, run(x), strict=True):
            for call in calls:
                each.add(*call)


@contextlib.contextmanager
def _observed(
    layer: keras.layers.BatchNormalization, calls: list[_Moments]
) -> Iterator[None]:
    """Lets a layer normalize by each batch's own statistics, and notes them."""
    own = vars(layer).get("call")
    call = layer.call

    def observed(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        count, mean, variance = _moments(layer, inputs, mask)
        calls.append((count, mean, variance))
        # Not for good: nothing is, inside a compiled function.
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
        return call(inputs, training=False, mask=mask)

    # Not by setattr: Keras would track it.
    vars(layer)["call"] = observed
    try:
        yield
    finally:
        if own is None:
            del vars(layer)["call"]
        else:
            vars(layer)["call"] = own


def _moments(
    layer: keras.layers.BatchNormalization, inputs: Any, mask: Any
) -> _Moments:
    """Values per channel that the mask leaves, their mean and their variance."""
    ops = keras.ops
    # Squares overflow in half precision; the layer itself casts likewise.
    inputs = ops.cast(inputs, layer.moving_mean.dtype)
    rank = len(inputs.shape)
    axes = [axis for axis in range(rank) if axis != layer.axis % rank]
    weights = ops.ones_like(inputs)
    if mask is not None:
        weights = weights * ops.cast(ops.expand_dims(mask, -1), inputs.dtype)
    count = ops.sum(weights, axes)
    share = weights / ops.maximum(ops.sum(weights, axes, keepdims=True), 1)
    mean = ops.sum(share * inputs, axes, keepdims=True)
    variance = ops.sum(share * ops.square(inputs - mean), axes)
    return count, ops.reshape(mean, (-1,)), variance


def _checked(model: Any, batches: Any) -> list[keras.layers.BatchNormalization]:
    """The layers to measure, if the arguments are in order."""
    check_type("model", model, keras.Model, "a Keras model")
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not (model.built and all(layer.built for layer in layers)):
        raise ValueError(
            "`model` must be built: call it, or give it a `keras.Input`. "
            f"Received: model={model.name!r}"
        )
    if batches is not None:
        check_integer("batches", batches, 1)
    return layers
