"""The backend in use: one small file per backend, behind the names in here."""

from __future__ import annotations

import keras

from pgmpf_tf.backends.base import Backend


def _in_use() -> Backend:
    name = keras.backend.backend()
    if name == "tensorflow":
        from pgmpf_tf.backends.tensorflow import TensorFlow

        return TensorFlow()
    if name == "jax":
        from pgmpf_tf.backends.jax import Jax

        return Jax()
    if name == "torch":
        from pgmpf_tf.backends.torch import Torch

        return Torch()
    raise ImportError(
        "pgmpf_tf runs on Keras' backends TensorFlow, JAX and PyTorch. Set the "
        "environment variable KERAS_BACKEND to tensorflow, jax or torch before keras "
        f"is imported. Received: KERAS_BACKEND={name!r}"
    )


_backend = _in_use()

assign_if = _backend.assign_if
check_same_strategy = _backend.check_same_strategy
check_strategy = _backend.check_strategy
compiled = _backend.compiled
gradients = _backend.gradients
has_several_workers = _backend.has_several_workers
strategy_scope = _backend.strategy_scope
