"""The stages of a run that train: dense, then pruned. Each goes on where it stopped."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import keras
import rich
import tensorflow as tf

import pgmpf_tf
from experiments.data.datasets import Data
from experiments.networks.precision import FILE_PRECISION, in_precision
from experiments.run import strategies
from experiments.run.directory import RunDirectory
from experiments.run.records import EpochRecord
from experiments.run.settings import RunSettings


@dataclasses.dataclass(frozen=True)
class Stage:
    """What is trained, and how long.

    Attributes:
        name: `"dense"`, `"pruned"` or `"compacted"`: names the files and the metrics.
        epochs: the epoch that training ends before.
        learning_rate: at the start of the schedule.
        make_model: builds the model to start from; takes the teacher. One that is
            compiled goes on where it stands.
        make_teacher: builds the teacher, which a saved model has lost; or None.
        until_final: whether training ends as soon as pruning is done. The model then
            keeps its optimizer, for the next stage.
    """

    name: str
    epochs: int
    learning_rate: float
    make_model: Callable[[keras.Model | None], keras.Model]
    make_teacher: Callable[[], keras.Model] | None = None
    until_final: bool = False

    def is_over(self, model: keras.Model, epoch: int) -> bool:
        """Whether a model is trained when so many epochs are done."""
        return epoch >= self.epochs or (self.until_final and model.pruning_is_final)


def train(
    stage: Stage,
    data: Data,
    directory: RunDirectory,
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Trains a stage's model for its epochs, or for those that are left.

    The trained model goes to `NAME.keras`; nothing is done if that is there.
    After every epoch the whole state is saved; a run that was killed goes on from
    there with the batches that the uninterrupted run would have seen.

    Args:
        stage: what to do.
        data: what to train and to validate on.
        directory: where files go.
        strategy: where to train; the default device if None.
    """
    if directory.model_path(stage.name).is_file():
        return
    with strategies.scope(strategy):
        teacher = stage.make_teacher() if stage.make_teacher else None
        model, first_epoch = _start(stage, teacher, data, directory)
    if not stage.is_over(model, first_epoch):
        rich.print(_announcement(stage, model, first_epoch))
        record = EpochRecord(
            stage.name,
            directory,
            first_epoch,
            images=data.train_size,
            teacher_macs=pgmpf_tf.profile(teacher).macs if teacher else 0,
        )
        _fit(model, data, directory.settings, stage, first_epoch, record)
    elif not directory.checkpoint_path(stage.name).is_file():
        directory.save_model(model, directory.checkpoint_path(stage.name))
    if directory.writable:
        _finish(stage, directory)


def _start(
    stage: Stage, teacher: keras.Model | None, data: Data, directory: RunDirectory
) -> tuple[keras.Model, int]:
    """The compiled model as it was after its last whole epoch, and the next epoch."""
    settings = directory.settings
    steps = data.steps(settings.batch_size)
    checkpoint = directory.checkpoint_path(stage.name)
    if checkpoint.is_file():
        model = keras.saving.load_model(checkpoint)
        if teacher is not None:
            model.teacher = teacher
    else:
        model = stage.make_model(teacher)
    if not model.compiled:
        model.compile(
            optimizer=_optimizer(settings, stage.learning_rate, stage.epochs * steps),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
    _penalize_weights(model, settings.weight_decay)
    iterations = keras.ops.convert_to_numpy(model.optimizer.iterations)
    return model, int(iterations) // steps


def _fit(
    model: keras.Model,
    data: Data,
    settings: RunSettings,
    stage: Stage,
    first_epoch: int,
    record: EpochRecord,
) -> None:
    source: Any = data
    if settings.on_device:
        from experiments.data.on_device import OnDevice

        source = OnDevice(data)
    model.fit(
        source.train_batches(
            settings.batch_size,
            seed=settings.seed,
            epochs=stage.epochs,
            first_epoch=first_epoch,
        ),
        epochs=stage.epochs,
        initial_epoch=first_epoch,
        steps_per_epoch=data.steps(settings.batch_size),
        validation_data=source.validation_batches(settings.batch_size),
        callbacks=[record, _End(stage)],
        # Without a terminal a progress bar is a flood of lines.
        verbose=1 if sys.stdout.isatty() else 2,
        shuffle=False,
    )


class _End(keras.callbacks.Callback):
    """Ends the training when its stage is over."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks whether it is."""
        if self._stage.is_over(self.model, epoch + 1):
            self.model.stop_training = True


def _finish(stage: Stage, directory: RunDirectory) -> None:
    """Leaves the trained model, and removes the state to go on from."""
    checkpoint = directory.checkpoint_path(stage.name)
    # The optimizer's state is as large as the weights: without it, if nobody goes on.
    trained = keras.saving.load_model(checkpoint, compile=stage.until_final)
    if stage.name == "dense" and isinstance(trained, pgmpf_tf.PrunedModel):
        trained = keras.Model(trained.input, trained.output, name=trained.name)
    if directory.settings.precision != FILE_PRECISION and not stage.until_final:
        trained = in_precision(trained, FILE_PRECISION)
    directory.save_model(trained, directory.model_path(stage.name))
    checkpoint.unlink()


def _announcement(stage: Stage, model: keras.Model, first_epoch: int) -> str:
    action = "Pruning" if stage.name == "pruned" else "Training"
    if stage.name == "compacted":
        action += f" what is left, {model.count_params():,} parameters, of"
    text = f"[bold]{action} {model.name}[/bold] for {stage.epochs} epochs"
    return text + (f", from epoch {first_epoch + 1} on" if first_epoch else "")


def _optimizer(
    settings: RunSettings, learning_rate: float, steps: int
) -> keras.optimizers.Optimizer:
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


def _penalize_weights(model: keras.Model, decay: float) -> None:
    """Weight decay as the paper's SGD has it: a term of the gradient of every weight.

    Keras' own `weight_decay` bypasses momentum, so that the same number means less.
    The penalty hangs on the variables, not on the layers' configuration: it is gone
    from the files that training leaves.
    """
    if decay:
        for variable in model.trainable_variables:
            variable.regularizer = keras.regularizers.L2(decay / 2)
