"""Operations that stand for what an opened layer does without calling anything."""

from __future__ import annotations

import keras

from pgmpf_tf.channels.arrays import Array, Shape


class Source(keras.layers.Layer):
    """A weight of an opened layer, as a call of its own that takes no tensors.

    Attributes:
        variable: the weight.
        compute: the dtype in which it is used.
    """

    def __init__(self, variable: keras.Variable, compute: str, name: str) -> None:
        super().__init__(name=name, trainable=variable.trainable)
        self.variable, self.compute = variable, compute
        self.built = True

    @property
    def policy(self) -> str:
        """The name of the dtype policy of a layer that uses the weight so."""
        own = keras.backend.standardize_dtype(self.variable.dtype)
        return own if self.compute == own else f"mixed_{self.compute}"


class Constant(keras.Operation):
    """An array that an opened layer hands to one of its layers."""

    def __init__(self, values: Array, name: str) -> None:
        super().__init__(name=name)
        self.values = values


class BatchBroadcast(keras.Operation):
    """Repeats a tensor without samples for each sample, and along other axes.

    Attributes:
        shape: the shape that it makes, None for the batch, which is its first axis.
    """

    def __init__(self, shape: Shape, name: str) -> None:
        super().__init__(name=name)
        self.shape = shape


class Passing(keras.Operation):
    """A layer that returns its input at inference, and does in training what it does.

    Attributes:
        layer: the layer.
    """

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__(name=layer.name)
        self.layer = layer


STAND_INS = (Source, Constant, BatchBroadcast, Passing)
"""What stands in a graph for what an opened layer has or does, and cannot be called."""
