"""The callback by which `fit` moves the masks, ahead of all other callbacks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pgmpf_tf.training.progress import Progress


class MaskUpdates(keras.callbacks.Callback):
    """Updates the masks before the first epoch and at each epoch's end.

    The end of an epoch comes before its validation, so that validation, checkpoints
    and logs all see the same network: the masked one. Keras has no event there; the
    start of the validation is it, and without validation the epoch's end.

    Args:
        progress: where the run stands.
        epochs: the epoch that `fit` stops before.

    Attributes:
        to_the_end: whether the run is meant to reach the end of the schedules.
        masks: the masks before the first epoch and after each one.
    """

    def __init__(self, progress: Progress, epochs: int) -> None:
        super().__init__()
        self.to_the_end = False
        self.masks: list[dict[str, np.ndarray]] = []
        self._progress = progress
        self._epochs = epochs
        self._values: dict[str, float] | None = None
        self._planned = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Plans the schedules at the first epoch, once checkpoints are restored."""
        if not self._planned:
            self._planned = True
            self.to_the_end = self._progress.plan(self._epochs - epoch)
            if self._progress.epoch < 0 and not self._progress.finished:
                self._progress.update_at(-1, self.model.optimizer)
            self._record_masks()
        self._values = None
        self.model._distillation.reset()

    def on_test_begin(self, logs: Any = None) -> None:
        """Updates the masks before the epoch's validation."""
        self._end_epoch()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Updates the masks if there was no validation, and adds to History."""
        self._end_epoch()
        self._record_masks()
        if logs is not None:
            logs.update(self._values)
            logs.update(self.model._distillation.values())

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
        if progress.finished:
            self._values = progress.values()
        else:
            self._values = progress.update_at(progress.epoch, self.model.optimizer)


class StepMaskUpdates(MaskUpdates):
    """Updates the masks every `frequency` steps as well.

    Args:
        progress: where the run stands.
        epochs: the epoch that `fit` stops before.
        frequency: number of steps.
    """

    def __init__(self, progress: Progress, epochs: int, frequency: int) -> None:
        super().__init__(progress, epochs)
        self._frequency = frequency
        self._periods = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes the step that the epoch starts with."""
        super().on_epoch_begin(epoch, logs)
        self._periods = self._periods_done()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Updates the masks if the number of steps has passed a multiple."""
        done = self._periods_done()
        if done > self._periods and not self._progress.finished:
            steps = self.params.get("steps")
            fraction = (batch + 1) / steps if steps else 0.0
            self._progress.update_within(fraction, self.model.optimizer)
        self._periods = done

    def _periods_done(self) -> int:
        steps = keras.ops.convert_to_numpy(self.model.optimizer.iterations)
        return int(steps) // self._frequency
