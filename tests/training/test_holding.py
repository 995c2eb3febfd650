"""Runs that callbacks watch or end, before and after pruning is complete."""

import warnings

import keras
import numpy as np
import pytest

import pgmpf_tf
from pgmpf_tf import PruningConfig, schedules
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
)

EPOCHS, COMPLETE = 6, 3
METHOD = PruningConfig(rate=schedules.linear(end=0.5), updates=6)


def compiled(**options):
    model = wrap(convnet(), 0.5, **{"seed": 5, "method": METHOD, **options})
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), cross_entropy())
    return model


def fit(model, *callbacks, epochs=EPOCHS, **options):
    x, y = images_and_labels()
    return model.fit(
        x, y, 8, epochs=epochs, verbose=0, callbacks=list(callbacks), **options
    )


class Best(keras.callbacks.EarlyStopping):
    """Stops where it would choose the epoch in which least is pruned."""

    def __init__(self, **options):
        options = {"monitor": "pruning_rate", "mode": "min", **options}
        super().__init__(**options)
        self.heard = []

    def on_epoch_end(self, epoch, logs=None):
        self.heard.append((epoch, self.model.pruning_values()["pruning_rate"]))
        super().on_epoch_end(epoch, logs)


def test_an_epoch_is_chosen_among_those_with_the_final_network():
    model, best = compiled(), Best(patience=99, restore_best_weights=True)
    with pytest.warns(UserWarning, match=r"Best: only epochs count.*epoch 3 of 6 on"):
        history = fit(model, best, validation_data=images_and_labels())
    assert [epoch for epoch, _ in best.heard] == [*range(COMPLETE - 1, EPOCHS)]
    assert {rate for _, rate in best.heard} == {0.5}
    assert best.best_epoch == COMPLETE - 1
    loss = model.evaluate(*images_and_labels(), verbose=0)
    assert loss == pytest.approx(history.history["val_loss"][best.best_epoch], rel=1e-5)
    assert_pruned(model)


def test_a_run_is_not_stopped_for_what_pruning_does():
    model, best = compiled(), Best(patience=1)
    with pytest.warns(UserWarning, match="only epochs count"):
        history = fit(model, best)
    assert len(history.epoch) == COMPLETE + 1
    assert_pruned(model)


def test_the_best_network_that_is_saved_is_a_pruned_one(tmp_path):
    path = tmp_path / "best.keras"
    there = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: there.append(path.is_file())
    )
    best = keras.callbacks.ModelCheckpoint(
        path, monitor="pruning_rate", mode="min", save_best_only=True
    )
    with pytest.warns(UserWarning, match="ModelCheckpoint: only epochs count"):
        fit(compiled(), best, watch)
    assert there == [False] * (COMPLETE - 1) + [True] * (EPOCHS - COMPLETE + 1)
    saved = keras.saving.load_model(path)
    assert_pruned(saved)
    small = pgmpf_tf.compact(saved)
    assert small.get_layer("first").filters == 4


def test_the_best_of_batches_is_a_pruned_one(tmp_path):
    path = tmp_path / "best.weights.h5"
    model, saved_at = compiled(), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if path.is_file() and not saved_at:
                saved_at.append(self.model.pruning_values()["pruning_rate"])

    best = keras.callbacks.ModelCheckpoint(
        path, "loss", save_best_only=True, save_weights_only=True, save_freq=1
    )
    with pytest.warns(UserWarning, match="ModelCheckpoint"):
        fit(model, best, Watch())
    assert saved_at == [0.5]


def test_the_learning_rate_is_not_reduced_for_what_pruning_does():
    model = compiled()
    reduce = keras.callbacks.ReduceLROnPlateau(
        monitor="pruning_rate", mode="min", factor=0.1, patience=1
    )
    with pytest.warns(UserWarning, match="ReduceLROnPlateau"):
        history = fit(model, reduce).history
    # The first epoch that counts is no plateau yet; the rate noted is the one before.
    expected = [0.05] * (COMPLETE + 1) + [0.005, 0.0005]
    np.testing.assert_allclose(history["learning_rate"], expected, rtol=1e-5)


def test_callbacks_that_only_look_hear_of_every_epoch(tmp_path):
    path = tmp_path / "{epoch}.weights.h5"
    every = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(compiled(), every)
    assert len(list(tmp_path.iterdir())) == EPOCHS


def test_in_a_run_after_the_last_update_all_is_as_in_keras():
    model, best = compiled(), Best(patience=1)
    model.apply_masks()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = fit(model, best)
    assert len(history.epoch) == 2


def test_callbacks_of_a_list_are_held_back_too():
    model, best = compiled(), Best(patience=99)
    callbacks = keras.callbacks.CallbackList(
        [best], add_history=True, model=model, epochs=EPOCHS
    )
    x, y = images_and_labels()
    with pytest.warns(UserWarning, match="only epochs count"):
        model.fit(x, y, 8, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    assert best.heard[0] == (COMPLETE - 1, 0.5)


class StopAfter(keras.callbacks.Callback):
    """Ends a run after some epochs, or in the middle of the next one."""

    def __init__(self, epochs, batch=None):
        super().__init__()
        self.epochs, self.batch = epochs, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (self.epochs, self.batch):
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        if self.batch is None and epoch + 1 == self.epochs:
            self.model.stop_training = True


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("method", [METHOD, "pgmpf_published"])
def test_a_run_that_is_ended_keeps_the_network_and_says_what_is_missing(batch, method):
    model, seen = compiled(method=method), []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((model.get_weights(), logs))
    )
    with pytest.warns(UserWarning, match=r"ended after 1 of 6 epochs.*`apply_masks`"):
        history = fit(model, StopAfter(1, batch), watch)
    weights, logs = seen[-1]
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert model.pruning_values()["pruning_rate"] == logs["pruning_rate"] < 0.5
    for group, mask in model.masks().items():
        np.testing.assert_array_equal(history.masks[-1][group], mask == 1)
    with pytest.warns(UserWarning, match="pruning of 'convnet' is not complete"):
        pgmpf_tf.compact(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, epochs=EPOCHS, initial_epoch=1)
    assert_pruned(model)


def test_weights_of_before_that_a_callback_restores_are_masked():
    model, early = compiled(), []

    def restore(epoch, logs):
        if epoch == 0:
            early.extend(model.get_weights())
        if epoch == EPOCHS - 1:
            model.set_weights(early)

    watch = keras.callbacks.LambdaCallback(on_epoch_end=restore)
    with pytest.warns(UserWarning, match="restored weights of an epoch before"):
        history = fit(model, watch)
    assert_pruned(model)
    assert history.masks[-1]["first"].sum() == 4


@pytest.mark.parametrize("method", [METHOD, "pgmpf_published"])
def test_a_run_that_diverges_ends_cleanly(method):
    model = compiled(method=method)
    model.optimizer.learning_rate = 1e30
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(model, keras.callbacks.TerminateOnNaN())
    assert len(history.epoch) == 1
    assert not np.isfinite(history.history["loss"][0])


def test_a_single_epoch_says_that_it_has_all_pruning():
    with pytest.warns(UserWarning, match=r"all pruning takes place.*`epochs=10`"):
        fit(compiled(), epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(compiled(epochs=1), epochs=1)
        model = compiled(epochs=2)
        fit(model, epochs=1)
        assert (model.masks()["first"] == 0).sum() < 4 or not model._progress.finished
        fit(model, epochs=1)
    assert_pruned(model)
