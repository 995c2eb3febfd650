"""The callback by which `fit` moves the masks, ahead of all other callbacks."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from pgmpf_tf.training.progress import Progress


class MaskUpdates(keras.callbacks.Callback):
    """Updates the masks when the method wants it: between steps, or between epochs.

    The end of an epoch comes before its validation, so that validation, checkpoints
    and logs all see the same network: the masked one. Keras has no event there; the
    start of the validation is it, and without validation the epoch's end.

    Args:
        progress: where the run stands.

    Attributes:
        masks: the masks before the first epoch and after each one.
        epochs: how many epochs `fit` was asked for; 0 if it never began one.
        ended: how many of them are done.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.masks: list[dict[str, np.ndarray]] = []
        self.epochs = 0
        self.ended = 0
        self._progress = progress
        self._values: dict[str, float] | None = None
        self._began = self._moving = False
        self._epoch = self._steps = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Notes that callbacks are called."""
        self._began = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Plans the schedules at the first epoch, once checkpoints are restored."""
        progress, optimizer = self._progress, self.model.optimizer
        first = not self.epochs
        if first:
            self.epochs = self.params["epochs"] - epoch
            fresh = progress.epoch < 0 and not progress.finished
            progress.plan(self.epochs, self.params.get("steps"))
            progress.start(optimizer)
            if fresh and self.epochs == 1 and not progress.length_known:
                warnings.warn(
                    "`fit` runs for one epoch, so all pruning takes place in it. If "
                    "more calls are to follow, give their epochs in all to `wrap`: "
                    "`epochs=10`, say. `epochs=1` there silences this.",
                    stacklevel=2,
                )
        self._epoch = progress.epoch
        self._moving = not (progress.finished or progress.by_epochs)
        self._update_within(0)
        if first:
            self._record_masks()
        self._values = None
        self._steps = 0
        self.model._distillation.reset()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Updates the masks within an epoch, before the step that follows.

        Not after the step before: a callback may have found there that the run is over.
        """
        if batch:
            self._update_within(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts the steps of the epoch."""
        self._steps = batch + 1

    def on_test_begin(self, logs: Any = None) -> None:
        """Updates the masks before the epoch's validation."""
        self._end_epoch()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Updates the masks if there was no validation, and adds to History."""
        self._end_epoch()
        self._record_masks()
        if logs is not None and self._values is not None:
            logs.update(self._values)
            logs.update(self.model._distillation.values())

    def _update_within(self, done: int) -> None:
        progress = self._progress
        if not (self._moving and progress.is_due(self._epoch, done)):
            return
        if done:
            self.model._sync_state()
        progress.update_within(self._epoch, done, self.model.optimizer)
        self._moving = not progress.finished

    def warn_of_the_end(self) -> None:
        """Says what is missing if the run has ended before its schedules."""
        progress = self._progress
        if not self._began:
            warnings.warn(
                "`fit` of the model's class has called no callback, so nothing was "
                "pruned. Let it hand its `callbacks` to `super().fit`, or call "
                "`update_masks` in a training loop of your own.",
                stacklevel=3,
            )
        elif self.ended < self.epochs and not progress.finished:
            rate = progress.values()["pruning_rate"]
            warnings.warn(
                f"The run has ended after {self.ended} of {self.epochs} epochs, before "
                f"pruning was complete: the pruning rate is {rate:.3g}. The network is "
                "as it was trained. `fit` goes on from here; `apply_masks` masks the "
                "rest without training.",
                stacklevel=3,
            )

    def replace_last_masks(self) -> None:
        """Notes that masks have moved after the last epoch's end."""
        del self.masks[-1:]
        self._record_masks()

    def _record_masks(self) -> None:
        masks = self.model.masks()
        self.masks.append({name: mask == 1.0 for name, mask in masks.items()})

    def _end_epoch(self) -> None:
        if self._values is not None:
            return
        progress = self._progress
        if progress.finished or self.model.stop_training:
            # A callback has ended the run in mid-epoch: the masks stay as they are.
            self._values = progress.values()
        else:
            self._values = progress.end_epoch(self._steps, self.model.optimizer)
            self.ended += 1
