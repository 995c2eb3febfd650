"""Keras callbacks that show how the pruning of a wrapped model goes."""

from __future__ import annotations

from typing import Any

import keras

from pgmpf_tf.training import PrunedModel
from pgmpf_tf.training.backend import ScalarLog


class PruningLog(keras.callbacks.Callback):
    """Writes the schedules and the filters alive in each group to TensorBoard.

    Example:
        >>> model.fit(data, callbacks=[pgmpf_tf.callbacks.PruningLog("logs")])

    Args:
        log_dir: directory of the TensorBoard event files.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__()
        self._log_dir = str(log_dir)
        self._log: ScalarLog | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the log.

        Raises:
            TypeError: if the model does not come from `pgmpf_tf.wrap`.
        """
        if not isinstance(self.model, PrunedModel):
            raise TypeError(
                "PruningLog needs a model that `pgmpf_tf.wrap` returned. "
                f"Received: {self.model.name!r} of type {type(self.model).__name__}"
            )
        self._log = ScalarLog(self._log_dir)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the epoch's scalars."""
        scalars = {f"pruning/{k}": v for k, v in self.model.pruning_values().items()}
        for group, mask in self.model.masks().items():
            scalars[f"filters_alive/{group}"] = float(mask.sum())
        self._log.write(scalars, epoch)

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the log."""
        self._log.close()
