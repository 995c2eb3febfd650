"""Mends a small network in a given time: the dense one teaches it, without labels."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pgmpf_tf._files import staged, write_text
from pgmpf_tf.delivery.copying import without_last_activations
from pgmpf_tf.delivery.distance import per_sample

LEARNING_RATE = 3e-4
_SAVE_SECONDS = 30.0
MOST_EPOCHS = 200
"""Even where the time would allow more."""


@dataclass
class Progress:
    """How far mending has come; goes on from a file.

    Attributes:
        seconds: spent in training.
        errors: how far the best network is from the dense one, for each of the
            validation samples.
        history: per epoch the distance in training (`loss`) and validation
            (`val_loss`).
    """

    seconds: float = 0.0
    errors: list[float] = field(default_factory=list)
    history: dict[str, list[float]] = field(
        default_factory=lambda: {"loss": [], "val_loss": []}
    )

    @classmethod
    def load(cls, path: Path) -> Progress:
        """What a file holds; the start if there is none."""
        return cls(**json.loads(path.read_text("utf-8"))) if path.exists() else cls()


def mend(
    model: keras.Model,
    training: tuple[Any, Any],
    validation: tuple[Any, Any],
    loss: Any,
    seconds: float,
    folder: Path,
    say: Callable[[str], None],
) -> tuple[keras.Model, Progress]:
    """Trains a network to give what the dense one gives, and takes the best epoch.

    Both are compared before their last activations, see `without_last_activations`.
    Adam; the learning rate falls by a cosine over the time. BatchNormalization layers
    keep their statistics, and nothing is dropped. A run that was killed goes on where
    it was last saved.

    Args:
        model: the small network, as it is before mending.
        training: inputs, and what the dense network gives before its last activations.
        validation: others, on which the best epoch is found.
        loss: what `compile` takes: how far outputs are from the dense network's.
        seconds: of training, in all runs together.
        folder: where to save.
        say: shows what is being done.

    Returns:
        The network with the weights of the best epoch, or its own if none is clearly
        better; and the progress.
    """
    progress = Progress.load(folder / "mending.json")
    student = without_last_activations(model)
    if (folder / "mending.keras").exists():
        saved = keras.models.load_model(folder / "mending.keras", compile=False)
        student.set_weights(saved.get_weights())
    _as_in_inference(student)
    student.compile(keras.optimizers.Adam(LEARNING_RATE), loss)
    keep = partial(_keep_if_better, student, validation, loss, progress, folder)
    if not progress.errors:
        keep()
    clock = _Clock(progress, keep, seconds, folder, say)
    if not clock.over:
        student.fit(
            *training,
            batch_size=32,
            epochs=MOST_EPOCHS,
            initial_epoch=len(progress.history["loss"]),
            callbacks=[clock],
            verbose=0,
        )
    best = keras.models.load_model(folder / "best.keras", compile=False)
    model.set_weights(best.get_weights())
    return model, progress


def _as_in_inference(model: keras.Model) -> None:
    """Lets the network compute in training what it does in inference.

    What it learns from computes so as well. Statistics of batches, which the moving
    averages follow late, and dropped values would only be noise.
    """
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


# Standard errors of the mean difference. Of many epochs the one that a few samples like
# best may be worse for all others.
_CLEARLY_BETTER = 2.0


def _keep_if_better(
    model: keras.Model,
    validation: tuple[Any, Any],
    loss: Any,
    progress: Progress,
    folder: Path,
) -> float:
    """The distance in validation; a network that is better than all is kept."""
    x, targets = validation
    errors = per_sample(loss, model.predict(x, verbose=0), targets)
    if not progress.errors or _clearly_less(errors, np.array(progress.errors)):
        _save(model, folder / "best.keras")
        progress.errors = errors.tolist()
    return float(errors.mean())


def _clearly_less(errors: np.ndarray, than: np.ndarray) -> bool:
    """Whether errors of samples are less than others of the same, beyond chance."""
    gains = than - errors
    if len(gains) < 2:
        return False
    deviation = gains.std(ddof=1) / math.sqrt(len(gains))
    return bool(gains.mean() > _CLEARLY_BETTER * deviation)


def _save(model: keras.Model, path: Path) -> None:
    with staged(path.parent) as folder:
        model.save(folder / path.name)


class _Clock(keras.callbacks.Callback):
    """Lets the learning rate fall, ends the training in time, and saves it."""

    def __init__(
        self,
        progress: Progress,
        keep: Callable[[], float],
        seconds: float,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._progress, self._keep = progress, keep
        self._limit, self._folder, self._say = seconds, folder, say
        self._last = self._saved = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self._progress.seconds >= self._limit

    def _tick(self) -> None:
        now = time.monotonic()
        self._progress.seconds += now - self._last
        self._last = now

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts the clock."""
        self._last = time.monotonic()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the learning rate."""
        share = min(1.0, self._progress.seconds / self._limit)
        rate = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * share))
        self.model.optimizer.learning_rate = max(rate, 1e-6)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Ends the training when the time is up; saves it now and then."""
        self._tick()
        if self.over:
            self.model.stop_training = True
        elif self._last - self._saved > _SAVE_SECONDS:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Holds the network against the dense one."""
        distance = self._keep()
        # What measuring and saving take is a part of the time that was asked for.
        self._tick()
        history = self._progress.history
        history["loss"].append(float((logs or {}).get("loss", math.nan)))
        history["val_loss"].append(distance)
        self._say(
            f"mending: epoch {epoch + 1}, distance {distance:.4g}, "
            f"{self._progress.seconds:.0f} of {self._limit:.0f} s"
        )
        self._save()
        if self.over:
            self.model.stop_training = True

    def _save(self) -> None:
        _save(self.model, self._folder / "mending.keras")
        write_text(self._folder / "mending.json", json.dumps(asdict(self._progress)))
        self._saved = time.monotonic()
