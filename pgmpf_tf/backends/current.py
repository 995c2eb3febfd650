"""The backend in use: one small file per backend, behind the names in here."""

from __future__ import annotations

import keras

if keras.backend.backend() == "tensorflow":
    from pgmpf_tf.backends.tensorflow import (
        assign_if,
        check_same_strategy,
        check_strategy,
        compiled,
        gradients,
        has_several_workers,
        strategy_scope,
    )
elif keras.backend.backend() == "jax":
    from pgmpf_tf.backends.jax import (
        assign_if,
        check_same_strategy,
        check_strategy,
        compiled,
        gradients,
        has_several_workers,
        strategy_scope,
    )
elif keras.backend.backend() == "torch":
    from pgmpf_tf.backends.torch import (
        assign_if,
        check_same_strategy,
        check_strategy,
        compiled,
        gradients,
        has_several_workers,
        strategy_scope,
    )
else:
    raise ImportError(
        "pgmpf_tf runs on Keras' backends TensorFlow, JAX and PyTorch. Set the "
        "environment variable KERAS_BACKEND to tensorflow, jax or torch before keras "
        f"is imported. Received: KERAS_BACKEND={keras.backend.backend()!r}"
    )

__all__ = [
    "assign_if",
    "check_same_strategy",
    "check_strategy",
    "compiled",
    "gradients",
    "has_several_workers",
    "strategy_scope",
]
