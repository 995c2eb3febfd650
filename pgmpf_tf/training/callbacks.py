"""Keras callbacks that show how the pruning of a wrapped model goes."""

from __future__ import annotations

import os
from typing import Any

import keras

from pgmpf_tf._checks import check_bool, check_path
from pgmpf_tf.backends.summaries import SummaryLog
from pgmpf_tf.training.model import PrunedModel


class PruningLog(keras.callbacks.Callback):
    """Writes what pruning does in each epoch to TensorBoard (the package of that name).

    Scalars: the schedules, as `pruning/...`, and the number of filters alive in each
    group, as `filters_alive/GROUP`. Histograms: the L2 norms of the filters of each
    group, as `filter_norms/GROUP`; filters that die are seen to part from the others
    and to sink to zero.

    Example:
        >>> model.fit(data, callbacks=[pgmpf_tf.callbacks.PruningLog("logs")])

    Args:
        log_dir: directory of the TensorBoard event files.
        histograms: whether to write histograms, for which all weights are looked at
            once per epoch, as they are to update the masks.
    """

    def __init__(
        self, log_dir: str | os.PathLike[str], *, histograms: bool = True
    ) -> None:
        super().__init__()
        self._histograms = check_bool("histograms", histograms)
        self._log_dir = str(check_path("log_dir", log_dir))

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
        self._log = SummaryLog(self._log_dir)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the epoch's scalars and histograms."""
        scalars = {f"pruning/{k}": v for k, v in self.model.pruning_values().items()}
        for group, mask in self.model.masks().items():
            scalars[f"filters_alive/{group}"] = float(mask.sum())
        norms = self.model.filter_norms() if self._histograms else {}
        histograms = {f"filter_norms/{group}": norms[group] for group in norms}
        self._log.write(epoch, scalars, histograms)

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the log."""
        self._log.close()
