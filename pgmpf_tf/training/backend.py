"""The training step of the Keras backend in use: one small file per backend."""

from __future__ import annotations

import keras

if keras.backend.backend() == "tensorflow":
    from pgmpf_tf.training.tensorflow import MaskedTrainer
else:
    raise ImportError(
        "pgmpf_tf trains on Keras' TensorFlow backend. Set the environment variable "
        "KERAS_BACKEND=tensorflow before keras is imported. "
        f"Received: KERAS_BACKEND={keras.backend.backend()!r}"
    )

__all__ = ["MaskedTrainer"]
