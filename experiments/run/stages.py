"""The stages of a run that train: dense, then pruned. Each goes on where it stopped."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable

import keras
import rich
import tensorflow as tf

import pgmpf_tf
from experiments.data.datasets import Data
from experiments.run import strategies
from experiments.run.directory import RunDirectory
from experiments.run.records import EpochRecord
from experiments.run.settings import Settings


@dataclasses.dataclass(frozen=True)
class Stage:
    """What is trained, and how long.

    Attributes:
        name: `"dense"` or `"pruned"`: names the files and the metrics.
        epochs: epochs in all.
        learning_rate: at the start of the schedule.
        make_model: builds the model to start from; takes the teacher.
        make_teacher: builds the teacher, which a saved model has lost; or None.
    """

    name: str
    epochs: int
    learning_rate: float
    make_model: Callable[[keras.Model | None], keras.Model]
    make_teacher: Callable[[], keras.Model] | None = None


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
    if first_epoch < stage.epochs:
        rich.print(_announcement(stage, model, first_epoch))
        record = EpochRecord(
            stage.name,
            directory,
            first_epoch,
            images=data.train_size,
            teacher_macs=pgmpf_tf.profile(teacher).macs if teacher else 0,
        )
        _fit(model, data, directory.settings, stage.epochs, first_epoch, record)
    if directory.writable:
        _finish(stage, directory)


def _start(
    stage: Stage, teacher: keras.Model | None, data: Data, directory: RunDirectory
) -> tuple[keras.Model, int]:
    """The compiled model as it was after its last whole epoch, and the next epoch."""
    settings = directory.settings
    steps, first_epoch = data.steps(settings.batch_size), 0
    checkpoint = directory.checkpoint_path(stage.name)
    if checkpoint.is_file():
        model = keras.saving.load_model(checkpoint)
        first_epoch = int(model.optimizer.iterations) // steps
        if teacher is not None:
            model.teacher = teacher
    else:
        model = stage.make_model(teacher)
        model.compile(
            optimizer=_optimizer(settings, stage.learning_rate, stage.epochs * steps),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
    _penalize_weights(model, settings.weight_decay)
    return model, first_epoch


def _fit(
    model: keras.Model,
    data: Data,
    settings: Settings,
    epochs: int,
    first_epoch: int,
    record: EpochRecord,
) -> None:
    model.fit(
        data.train_batches(
            settings.batch_size,
            seed=settings.seed,
            epochs=epochs,
            first_epoch=first_epoch,
        ),
        epochs=epochs,
        initial_epoch=first_epoch,
        steps_per_epoch=data.steps(settings.batch_size),
        validation_data=data.validation_batches(settings.batch_size),
        callbacks=[record],
        # Without a terminal a progress bar is a flood of lines.
        verbose=1 if sys.stdout.isatty() else 2,
        shuffle=False,
    )


def _finish(stage: Stage, directory: RunDirectory) -> None:
    """Leaves the trained model, and removes the state to go on from."""
    checkpoint = directory.checkpoint_path(stage.name)
    # Without the optimizer, whose state is as large as the weights.
    trained = keras.saving.load_model(checkpoint, compile=False)
    if stage.name == "dense" and isinstance(trained, pgmpf_tf.PrunedModel):
        trained = keras.Model(trained.input, trained.output, name=trained.name)
    directory.save_model(trained, directory.model_path(stage.name))
    checkpoint.unlink()


def _announcement(stage: Stage, model: keras.Model, first_epoch: int) -> str:
    action = "Pruning" if stage.name == "pruned" else "Training"
    text = f"[bold]{action} {model.name}[/bold] for {stage.epochs} epochs"
    return text + (f", from epoch {first_epoch + 1} on" if first_epoch else "")


def _optimizer(
    settings: Settings, learning_rate: float, steps: int
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
