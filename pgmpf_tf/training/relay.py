"""Callbacks of one run that goes through two calls of `fit`, on two models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

_BATCH_EVENTS = tuple(
    f"on_{kind}_batch_{moment}"
    for kind in ("train", "test", "predict")
    for moment in ("begin", "end")
)
_OTHER_EVENTS = (
    "on_epoch_begin",
    "on_epoch_end",
    "on_test_begin",
    "on_test_end",
    "on_predict_begin",
    "on_predict_end",
)


class Relay(keras.callbacks.Callback):
    """Passes on to a callback what `fit` says, but the run's begin and end only once.

    Args:
        callback: the callback.
        begins: whether the run begins with this call of `fit`.
        ends: whether the run ends with it.
    """

    def __init__(
        self, callback: keras.callbacks.Callback, *, begins: bool, ends: bool
    ) -> None:
        super().__init__()
        self._callback = callback
        self._begins, self._ends = begins, ends
        # Keras need not wait for the end of a step for what does nothing there.
        self.async_safe = getattr(callback, "async_safe", False) or all(
            getattr(getattr(callback, event), "_is_default", False)
            for event in _BATCH_EVENTS
        )

    def set_params(self, params: Any) -> None:
        """Passes it on."""
        super().set_params(params)
        self._callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        """Passes it on."""
        super().set_model(model)
        self._callback.set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Passes it on, if it is the run's begin."""
        if self._begins:
            self._callback.on_train_begin(logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Passes it on, if it is the run's end."""
        if self._ends:
            self._callback.on_train_end(logs)


def _passed_on(event: str) -> Callable[..., None]:
    def pass_on(self: Relay, *args: Any, **kwargs: Any) -> None:
        getattr(self._callback, event)(*args, **kwargs)

    return pass_on


for _event in (*_BATCH_EVENTS, *_OTHER_EVENTS):
    setattr(Relay, _event, _passed_on(_event))
