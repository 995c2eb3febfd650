"""Networks with the same layers as another, and weights of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, tree

from pgmpf_tf.channels.graph import functional_of, trace

_LOSSY = {"relu", "relu6", "softmax"}
_LOSSY_LAYERS = (layers.ReLU, layers.Softmax)


def copy_of(
    model: keras.Model, shapes: Sequence[tuple[int | None, ...]] | None = None
) -> keras.Model:
    """A copy that shares nothing with the model.

    Args:
        model: the model.
        shapes: of its inputs, batch first, where sizes that vary in the model shall be
            fixed.
    """
    function = functional_of(model)
    tensors = None
    if shapes is not None:
        inputs = [
            keras.Input(
                batch_shape=shape,
                dtype=x.dtype,
                name=x._keras_history.operation.name,
            )
            for shape, x in zip(shapes, function.inputs, strict=True)
        ]
        tensors = tree.pack_sequence_as(function.input, inputs)
    copy = keras.models.clone_model(function, input_tensors=tensors)
    copy.set_weights(function.get_weights())
    return copy


def without_last_activations(model: keras.Model) -> keras.Model:
    """A copy that gives what the ReLU or softmax at the end of the network gets.

    There, an output that is off in one network says how far off, and has a gradient.
    Weights are in the order of the model's.
    """
    function = functional_of(model)
    graph = trace(function)
    read = {id(tensor) for node in graph.nodes for tensor in node.inputs}
    last = {
        id(node.operation)
        for node in graph.nodes
        if not node.shared and not any(id(tensor) in read for tensor in node.outputs)
    }

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if id(layer) in last:
            name = getattr(getattr(layer, "activation", None), "__name__", None)
            if isinstance(layer, _LOSSY_LAYERS) or (
                isinstance(layer, layers.Activation) and name in _LOSSY
            ):
                return layers.Identity(name=layer.name)
            if name in _LOSSY and "activation" in config:
                config["activation"] = "linear"
        return type(layer).from_config(config)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        # Softmax takes a mask, and what stands in for it does not.
        return (
            layer(*args)
            if isinstance(layer, layers.Identity)
            else layer(*args, **kwargs)
        )

    copy = keras.models.clone_model(function, clone_function=clone, call_function=call)
    copy.set_weights(function.get_weights())
    return copy
