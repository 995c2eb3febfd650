"""Callbacks that choose among epochs wait until the network is the one to choose.

Before pruning is complete each epoch has another network, larger than the one that is
wanted: its loss says nothing about the epochs to come, and its weights do not fit the
masks of later ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras.callbacks import Callback, EarlyStopping, ModelCheckpoint, ReduceLROnPlateau

from pgmpf_tf.training.progress import Progress

_EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def chooses(callback: Callback) -> bool:
    """Whether a callback picks epochs, or acts on how they compare."""
    if isinstance(callback, ModelCheckpoint):
        return callback.save_best_only
    return isinstance(callback, (EarlyStopping, ReduceLROnPlateau))


def held_back(callbacks: Sequence[Callback], progress: Progress) -> list[Callback]:
    """The callbacks, those that choose behind a `HeldBack`."""
    names = [type(callback).__name__ for callback in callbacks if chooses(callback)]
    notice = _Notice(names, progress)
    return [
        HeldBack(callback, progress, notice) if chooses(callback) else callback
        for callback in callbacks
    ]


class _Notice:
    """Says once in a run that callbacks wait."""

    def __init__(self, names: Sequence[str], progress: Progress) -> None:
        self._names, self._progress, self._said = names, progress, False

    def __call__(self) -> None:
        if self._said:
            return
        self._said = True
        first = self._progress.complete_after
        warnings.warn(
            f"{', '.join(dict.fromkeys(self._names))}: only epochs count in which "
            "pruning is complete, since those before have other networks. That is "
            f"from about epoch {first} of {self._progress.total} on.",
            stacklevel=2,
        )


class HeldBack(Callback):
    """A callback that hears of the ends of epochs once pruning is complete.

    Args:
        callback: hears of all else as ever.
        progress: where the run stands.
        notice: is called when something is held back.
    """

    def __init__(
        self, callback: Callback, progress: Progress, notice: Callable[[], None]
    ) -> None:
        super().__init__()
        self._callback = callback
        self._progress = progress
        self._notice = notice
        self._complete = False

    def set_params(self, params: dict[str, Any]) -> None:
        """Passes the parameters on."""
        super().set_params(params)
        self._callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        """Passes the model on."""
        super().set_model(model)
        self._callback.set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Looks where the run stands."""
        self._complete = self._progress.finished
        self._callback.on_train_begin(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Passes the epoch on if its network is final."""
        self._complete = self._progress.finished
        if self._complete:
            self._callback.on_epoch_end(epoch, logs)
            return
        self._notice()
        if isinstance(self._callback, ReduceLROnPlateau) and logs is not None:
            # It would note the learning rate; History has one for every epoch.
            optimizer = self.model.optimizer
            if not hasattr(optimizer, "optimizers"):
                rate = keras.ops.convert_to_numpy(optimizer.learning_rate)
                logs["learning_rate"] = float(rate)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Passes a batch on after which the network may be saved."""
        if self._complete or not isinstance(self._callback, ModelCheckpoint):
            self._callback.on_train_batch_end(batch, logs)


def _passed_on(event: str) -> Callable[..., None]:
    def handler(self: HeldBack, *args: Any, **kwargs: Any) -> None:
        getattr(self._callback, event)(*args, **kwargs)

    handler.__name__ = event
    handler.__doc__ = "Passes the event on."
    return handler


for _event in _EVENTS:
    if _event not in vars(HeldBack):
        setattr(HeldBack, _event, _passed_on(_event))
