"""BatchNorm statistics that follow every change of the masks within a few steps.

A moving average with momentum 0.99 needs hundreds of steps to forget the network that
it was taken from, and every update of the masks makes another network. So the averages
start anew at each change: in the k-th step after it the batch has the weight

    w_k = (eta + 1) / (k + eta)

until the layer's own average forgets no slower than that (polynomial-decay averaging,
O. Shamir and T. Zhang, ICML 2013, section 4). With eta = 0 it would be the mean of the
k batches since; but the network that has just lost filters learns fast, so that what is
recent counts for more: on average a batch is k / (eta + 2) steps old. How much more
depends on what one batch tells. Where each image has many positions, eta is 31; where
it has one, as behind a Dense layer, it is 7, or else small batches are too few samples.
A batch of fewer images than the mean of those since, as most epochs' last one, counts
for less in proportion.

This works on the values that the layer itself has written, and no layer is touched.
With m the momentum, a layer turns the moving value `before` into
`after = m before + (1 - m) batch`, from which

    batch - before = (after - before) / (1 - m)
    before + w_k (batch - before) = after + (after - before) (w_k / (1 - m) - 1)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from pgmpf_tf.backends.current import assign_if
from pgmpf_tf.channels.graph import trace
from pgmpf_tf.training.state import PruningState

_ETA = 31
_ETA_OF_ONE_POSITION = 7


def has_statistics(layer: keras.layers.Layer) -> bool:
    """Whether a layer keeps moving averages that can start anew.

    Batch renormalization trains on its averages, and half precision is too coarse to
    tell what a batch has added to them: both are left alone.
    """
    return (
        isinstance(layer, keras.layers.BatchNormalization)
        and not getattr(layer, "renorm", False)
        and layer.moving_mean.dtype in ("float32", "float64")
        and layer.momentum < 1.0
    )


def normalizations(model: keras.Model) -> tuple[tuple[keras.layers.Layer, int], ...]:
    """The layers that keep statistics, and how often each is called in one step."""
    calls = trace(model).calls()
    return tuple(
        (layer, len(calls.get(id(layer), ())) or 1)
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and has_statistics(layer)
    )


def scale_statistics(
    layer: keras.layers.BatchNormalization, factors: np.ndarray, mean: bool
) -> None:
    """What a layer would know if its inputs had always been scaled.

    Args:
        layer: a frozen one is left alone.
        factors: one per channel.
        mean: whether the moving mean is scaled, and not the moving variance alone.
    """
    if not layer.trainable or (factors == 1.0).all():
        return
    if mean:
        layer.moving_mean.assign(layer.moving_mean * factors)
    layer.moving_variance.assign(layer.moving_variance * np.square(factors))


class Pace(NamedTuple):
    """How fast averages forget.

    Attributes:
        own: what part a step of the layer forgets by itself.
        eta: of w_k.
    """

    own: float
    eta: int

    @property
    def end(self) -> float:
        """The k from which on the layer forgets fast enough by itself."""
        return (self.eta + 1) / self.own - self.eta

    def correction(self, k: Any, size: Any) -> Any:
        """How much of what a step has added is added once more.

        Args:
            k: the number of the step.
            size: of its batch, as a multiple of the mean one since the change.
        """
        weight = ops.minimum((self.eta + 1) / (k + self.eta) * size, 1.0)
        return ops.maximum(weight / self.own, 1.0) - 1.0


Averages = Sequence[tuple[keras.Variable, Pace]]


def watch_statistics(
    model: keras.Model,
    layers: Sequence[tuple[keras.layers.Layer, int]],
    state: PruningState,
) -> None:
    """Lets every call of a model in training be followed by the correction.

    By the instance's `call`: through it go calls with a state of variables as well, and
    a Functional model is known by having no `call` in its class.

    Args:
        model: the model.
        layers: see `normalizations`.
        state: steps since the last change, and their batches, are counted there.
    """
    own = model.call

    @functools.wraps(own)
    def call(*args: Any, **kwargs: Any) -> Any:
        symbolic = any(map(keras.utils.is_keras_tensor, keras.tree.flatten(args)))
        training = kwargs.get("training") is True and not symbolic
        averages = _averages(layers) if training else []
        # A copy: what stands for a variable may be the variable itself.
        before = [ops.copy(variable) for variable, _ in averages]
        outputs = own(*args, **kwargs)
        if averages:
            k, size = _counted((args, kwargs), state)
            _start_anew(averages, before, k, size)
        return outputs

    # Not by setattr: Keras would track it.
    model.__dict__["call"] = call


def _averages(layers: Sequence[tuple[keras.layers.Layer, int]]) -> Averages:
    return [
        (variable, Pace(1.0 - layer.momentum**calls, _eta(layer)))
        for layer, calls in layers
        if layer.trainable
        for variable in (layer.moving_mean, layer.moving_variance)
    ]


def _eta(layer: keras.layers.BatchNormalization) -> int:
    return _ETA if layer.input_spec.ndim > 2 else _ETA_OF_ONE_POSITION


def _counted(inputs: Any, state: PruningState) -> tuple[Any, Any]:
    """The number of a step, and its batch's size as a multiple of the mean one."""
    # Kept from overflowing; by then no layer needs the count any more.
    number = ops.minimum(state.steps_since, 2**30) + 1
    state.steps_since.assign(number)
    k = ops.cast(number, "float32")
    tensors = (x for x in keras.tree.flatten(inputs) if getattr(x, "shape", None))
    size = ops.cast(ops.shape(next(tensors))[0], "float32")
    mean = state.batch_since + (size - state.batch_since) / k
    state.batch_since.assign(mean)
    return k, size / ops.maximum(mean, 1.0)  # a replica's last batch may be empty


def _start_anew(averages: Averages, before: Sequence[Any], k: Any, size: Any) -> None:
    def corrected() -> list[Any]:
        values = []
        # Once for all layers that are alike, as most are.
        corrections = {pace: pace.correction(k, size) for _, pace in averages}
        for place, (variable, pace) in enumerate(averages):
            new = ops.copy(variable)
            more = ops.cast(corrections[pace], new.dtype)
            value = new + (new - before[place]) * more
            # A variance that shrinks by orders of magnitude may round below zero.
            values.append(ops.maximum(value, 0.0) if place % 2 else value)
        return values

    assign_if(
        k < max(pace.end for _, pace in averages),
        [variable for variable, _ in averages],
        corrected,
    )
