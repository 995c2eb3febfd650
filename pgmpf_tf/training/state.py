"""The state of pruning: a few variables that live and are saved with the model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


class PruningState(keras.layers.Layer):
    """Masks and progress of a wrapped model.

    It is a layer so that Keras creates its variables under the model's distribution
    strategy and saves them with the model. The model does not count it among its
    layers: weights, summaries and parameter counts stay those of the plain model.

    Args:
        units: number of prunable units.
        seed: seed of the dropout of the prior mask.
    """

    def __init__(self, units: int, seed: int) -> None:
        super().__init__(name="pruning_state", trainable=False, dtype="float32")
        # One entry more, always 1: for slices that belong to no prunable unit.
        self.mask = self._variable("mask", np.ones(units + 1, np.float32))
        self.suppression = self._variable("suppression", np.float32(0.0))
        self.weight_mask = self._variable("weight_mask", np.float32(1.0))
        self.rate = self._variable("rate", np.float32(0.0))
        self.seed = self._variable("seed", np.int32(seed))
        self.epoch = self._variable("epoch", np.int32(-1))
        self.finished = self._variable("finished", np.int32(0))
        # Up to which progress the masks are what the schedules say.
        self.reached = self._variable("reached", np.float32(0.0))
        # Steps since the masks last changed. A network that is only wrapped has not.
        self.steps_since = self._variable("steps_since", np.int32(2**30))
        # The mean number of samples of these steps.
        self.batch_since = self._variable("batch_since", np.float32(1.0))
        self.built = True

    def _variable(self, name: str, value: Any) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=value.shape,
            initializer=lambda shape, dtype: keras.ops.convert_to_tensor(value, dtype),
            dtype=value.dtype.name,
            trainable=False,
            autocast=False,
        )

    def load_own_variables(self, store: Any) -> None:
        """Restores the state; a file of the plain model has none and leaves it."""
        if len(store.keys()):
            super().load_own_variables(store)
