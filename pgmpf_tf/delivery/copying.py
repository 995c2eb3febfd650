"""A network with the same layers and weights of its own."""

from __future__ import annotations

import keras

from pgmpf_tf.channels.graph import functional_of


def copy_of(model: keras.Model) -> keras.Model:
    """A copy that shares nothing with the model."""
    function = functional_of(model)
    copy = keras.models.clone_model(function)
    copy.set_weights(function.get_weights())
    return copy
