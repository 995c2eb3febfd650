"""The stages of a run that train: dense, then pruned. Each goes on where it stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import keras
import rich
import tensorflow as tf

import pgmpf_tf
from experiments.data.datasets import Data
from experiments.run import strategies
from experiments.run.directory import RunDirectory
from experiments.run.settings import Settings


def train(
    stage: str,
    make_model: Callable[[], keras.Model],
    data: Data,
    directory: RunDirectory,
    *,
    epochs: int,
    learning_rate: float,
    strategy: tf.distribute.Strategy | None = None,
    make_teacher: Callable[[], keras.Model] | None = None,
) -> None:
    """Trains a model for `epochs`, or for those that are left.

    The trained model goes to `STAGE.keras`; nothing is done if that is there.
    After every epoch the whole state is saved; a run that was killed goes on from
    there with the batches that the uninterrupted run would have seen.

    Args:
        stage: `"dense"` or `"pruned"`: names the files and the metrics.
        make_model: builds the model to start from.
        data: what to train and to validate on.
        directory: where files go.
        epochs: epochs of this stage in all.
        learning_rate: at the start of the schedule.
        strategy: where to train; the default device if None.
        make_teacher: builds the teacher again that a saved model has lost.
    """
    settings = directory.settings
    if directory.model_path(stage).is_file():
        return
    steps = data.steps(settings.batch_size)
    checkpoint = directory.checkpoint_path(stage)
    with strategies.scope(strategy):
        if checkpoint.is_file():
            model = keras.saving.load_model(checkpoint)
            if make_teacher is not None:
                model.teacher = make_teacher()
            first_epoch = int(model.optimizer.iterations) // steps
        else:
            model = make_model()
            model.compile(
                optimizer=_optimizer(settings, learning_rate, epochs * steps),
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            )
            first_epoch = 0
        _penalise_weights(model, settings.weight_decay)
    if first_epoch < epochs:
        rich.print(_announcement(stage, model, first_epoch, epochs))
        model.fit(
            data.train_batches(
                settings.batch_size,
                seed=settings.seed,
                epochs=epochs,
                first_epoch=first_epoch,
            ),
            epochs=epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            validation_data=data.test_batches(settings.batch_size),
            callbacks=[_EpochRecord(stage, directory, first_epoch)],
            # Without a terminal a progress bar is a flood of lines.
            verbose=1 if sys.stdout.isatty() else 2,
            shuffle=False,
        )
    if directory.writable:
        # Without the optimizer, whose state is as large as the weights.
        trained = keras.saving.load_model(checkpoint, compile=False)
        if stage == "dense" and isinstance(trained, pgmpf_tf.PrunedModel):
            trained = keras.Model(trained.input, trained.output, name=trained.name)
        directory.save_model(trained, directory.model_path(stage))
        checkpoint.unlink()


def _announcement(stage, model, first_epoch, epochs):
    action = "Pruning" if stage == "pruned" else "Training"
    text = f"[bold]{action} {model.name}[/bold] for {epochs} epochs"
    return text + (f", from epoch {first_epoch + 1} on" if first_epoch else "")


def _optimizer(settings: Settings, learning_rate: float, steps: int):
    if settings.lr_schedule == "cosine":
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    else:
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [round(drop * steps) for drop in settings.lr_drops],
            [
                learning_rate * settings.lr_factor**n
                for n in range(len(settings.lr_drops) + 1)
            ],
        )
    return keras.optimizers.SGD(schedule, momentum=settings.momentum, nesterov=True)


def _penalise_weights(model: keras.Model, decay: float) -> None:
    """Weight decay as the paper's SGD has it: a term of the gradient of every weight.

    Keras' own `weight_decay` bypasses momentum, so that the same number means less.
    The penalty hangs on the variables, not on the layers' configuration: it is gone
    from the files that training leaves.
    """
    if decay:
        for variable in model.trainable_variables:
            variable.regularizer = keras.regularizers.L2(decay / 2)


class _EpochRecord(keras.callbacks.Callback):
    """Writes metrics and a checkpoint at every epoch's end."""

    def __init__(self, stage: str, directory: RunDirectory, first_epoch: int) -> None:
        super().__init__()
        self._stage = stage
        self._directory = directory
        # Epochs after the last checkpoint are trained again.
        self._records = [
            record
            for record in directory.metrics
            if record["stage"] != stage or record["epoch"] < first_epoch
        ]
        self._masks = directory.masks[: first_epoch + 1]
        self._started = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()
        if epoch == 0:
            self._record_masks()

    def on_epoch_end(self, epoch, logs=None):
        values = {name: float(value) for name, value in (logs or {}).items()}
        seconds = round(time.perf_counter() - self._started, 3)
        self._records.append(
            {"stage": self._stage, "epoch": epoch} | values | {"seconds": seconds}
        )
        self._directory.write_metrics(self._records)
        self._record_masks()
        self._directory.save_model(
            self.model, self._directory.checkpoint_path(self._stage)
        )

    def _record_masks(self):
        if self._stage == "pruned":
            self._masks.append(
                {
                    group: "".join("01"[int(kept)] for kept in mask)
                    for group, mask in self.model.masks().items()
                }
            )
            self._directory.write_masks(self._masks)
