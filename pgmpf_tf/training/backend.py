"""The training step of the backend in use: one small file per backend."""

from __future__ import annotations

import keras

if keras.backend.backend() == "tensorflow":
    from pgmpf_tf.training.tensorflow import MaskedTrainer
elif keras.backend.backend() == "jax":
    from pgmpf_tf.training.jax import MaskedTrainer
else:  # `pgmpf_tf.backends` has refused all others
    from pgmpf_tf.training.torch import MaskedTrainer

__all__ = ["MaskedTrainer"]
