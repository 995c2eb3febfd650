"""One run on two networks: the masked one, then the small one that is left of it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras.src.utils import io_utils

from pgmpf_tf._checks import received
from pgmpf_tf.training.fitting import with_signature_of_fit
from pgmpf_tf.training.holding import chooses
from pgmpf_tf.training.progress import Progress
from pgmpf_tf.training.relay import Relay
from pgmpf_tf.training.shrinking import check_training, compact

_FIT = inspect.signature(keras.Model.fit)


class FitAndShrink:
    """Mixin for a wrapped model: `fit` that ends on a small network."""

    _progress: Progress

    @property
    def pruning_is_final(self) -> bool:
        """Whether masks move no more and what they remove is zero and stays zero.

        From then on `compact` gives the network that the rest of the training is about,
        and `compact(model, compile=True)` may go on with it.
        """
        return self._progress.finished

    @with_signature_of_fit
    def fit_and_shrink(self, *args: Any, **kwargs: Any) -> keras.Model:
        """Trains the masked network until pruning is done, then the small one.

        One run of `epochs` epochs, like `fit`, that costs less than training the dense
        network: from the end of the epoch in which the masks become final, the network
        that is trained is `compact(self, compile=True)`. It goes on with the optimizer,
        the learning rate and the numbers of the epochs where the masked one stands.

        Only methods that let nothing of a pruned filter pass any more (suppression 1)
        before the run ends can do so: then the small network computes, and learns, what
        the masked one would. Soft pruning (SFP and its kin) trains masked filters until
        the last update, which may bring any of them back, so it needs the whole network
        to the end.

        Example:
            >>> model = pgmpf_tf.wrap(network, rate=0.5)
            >>> model.compile("adam", "sparse_categorical_crossentropy")
            >>> small = model.fit_and_shrink(images, labels, epochs=30)
            >>> small.history.history["loss"]  # of all 30 epochs

        Callbacks see one run: `on_train_begin` and `on_train_end` once, epochs numbered
        through, and as their `model` first this one, then the small one. Those that
        compare epochs (`EarlyStopping`, `ReduceLROnPlateau`, and `ModelCheckpoint` with
        `save_best_only`) see epochs of the small network only. `BackupAndRestore` keeps
        a second backup for it: a run that was killed goes on in either phase, when it
        is called again in the same way. A file that `ModelCheckpoint` saved holds the
        network of its epoch: load it, and go on with `fit_and_shrink` if it is a
        `PrunedModel`, with `fit` if it is the small one; `initial_epoch` says where.

        Args:
            *args: as of `keras.Model.fit`. With `steps_per_epoch`, a dataset is read
                from its begin again by the small network.
            **kwargs: as of `keras.Model.fit`.

        Returns:
            The small network: a plain, compiled Keras model, trained for the rest of
            the epochs. Its `history` is the History of the whole run, with
            `pruning_rate`, `suppression`, `weight_mask` and `masks` as `fit` has them.
            This model stays as it was when it shrank.

        Raises:
            ValueError: if the method is not done with pruning before the run ends, the
                model is of a class that trains in its own way, or as of `fit`.

        Warns:
            UserWarning: if a callback ended the run before pruning was done: the
                network that is returned is as small as it then was.
        """
        return _fit_and_shrink(self, args, kwargs)


def _fit_and_shrink(
    model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> keras.Model:
    check_training(model)
    _check_method(model)
    arguments = dict(_FIT.bind(model, *args, **kwargs).arguments)
    del arguments["self"]
    callbacks = _callbacks(arguments.pop("callbacks", None))
    history = next(c for c in callbacks if isinstance(c, keras.callbacks.History))
    backups = {c: _of_small(c) for c in callbacks if _is_backup(c)}
    for backup in backups:
        backup.set_model(model)
        backup.on_train_begin()
    first = [c for c in callbacks if not chooses(c)]
    turn = _Turn(model)
    if model.pruning_is_final:
        # The structure is final: so it was when a run that goes on now was ended.
        first, masks = [], [_present(model)]
        turn.epoch = model._initial_epoch or arguments.get("initial_epoch", 0)
    else:
        relays = [Relay(c, begins=True, ends=False) for c in first]
        masks = model.fit(**arguments, callbacks=[*relays, turn]).masks
    small = turn.small or compact(model, compile=True)
    second = [_Constant(model.pruning_values())]
    second += [
        Relay(backups.get(c, c), begins=c in backups or c not in first, ends=True)
        for c in callbacks
    ]
    arguments["initial_epoch"] = turn.epoch
    if turn.stopped:
        arguments["epochs"] = turn.epoch
    small.fit(**arguments, callbacks=second)
    for backup in backups:
        backup.on_train_end()
    history.masks = masks + [masks[-1]] * (len(history.epoch) - len(masks) + 1)
    small.history = history
    return small


def _check_method(model: Any) -> None:
    config = model.pruning_settings.config
    if config.end >= 1.0:
        raise ValueError(
            "`fit_and_shrink` needs a method that is done with pruning before the run "
            "ends, so that what is masked stays zero from then on (suppression 1): "
            '"pgmpf" or "gradual", say. With this one filters that are masked go on '
            "learning and may come back until the end: use `fit`, then `compact`. "
            f"{received('method', config)}"
        )


def _callbacks(given: Any) -> list[keras.callbacks.Callback]:
    if isinstance(given, keras.callbacks.CallbackList):
        given = given.callbacks
    callbacks = keras.tree.flatten(given or [])
    if not any(isinstance(c, keras.callbacks.History) for c in callbacks):
        callbacks.append(keras.callbacks.History())
    return callbacks


def _is_backup(callback: keras.callbacks.Callback) -> bool:
    return isinstance(callback, keras.callbacks.BackupAndRestore)


def _of_small(
    backup: keras.callbacks.BackupAndRestore,
) -> keras.callbacks.BackupAndRestore:
    """The backup of the small network, beside the masked one that it is made of."""
    return keras.callbacks.BackupAndRestore(
        os.path.join(backup.backup_dir, "small"),
        save_freq=backup.save_freq,
        double_checkpoint=backup.double_checkpoint,
        delete_checkpoint=backup.delete_checkpoint,
    )


def _present(model: Any) -> dict[str, Any]:
    return {name: mask == 1.0 for name, mask in model.masks().items()}


class _Turn(keras.callbacks.Callback):
    """Makes the small network at the end of the epoch in which the masks are final.

    The last callback, so that all others have seen that epoch. Not after `fit`, whose
    end is for the end of a run: it may put averages in the place of weights.

    Attributes:
        small: the small network, or None.
        epoch: the number of epochs that are done.
        stopped: whether another callback has ended the run.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.small: keras.Model | None = None
        self.epoch = 0
        self.stopped = False
        self._masked = model

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Makes the small network, if it is time."""
        self.epoch = epoch + 1
        self.stopped = self._masked.stop_training
        if self._masked.pruning_is_final:
            self.small = compact(self._masked, compile=True)
            self._masked.stop_training = True
            if self.params.get("verbose"):
                before, after = (
                    model.count_params() for model in (self._masked, self.small)
                )
                io_utils.print_msg(
                    f"Epoch {self.epoch}: pruning is done, the network shrinks from "
                    f"{before:,} to {after:,} parameters"
                )


class _Constant(keras.callbacks.Callback):
    """Gives History of the small network what does not change any more."""

    def __init__(self, values: Mapping[str, float]) -> None:
        super().__init__()
        self._values = values

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the values."""
        if logs is not None:
            logs.update(self._values)
