"""`fit_and_shrink`: one run, first on the masked network, then on the small one."""

import signal

import keras
import numpy as np
import pytest

import pgmpf_tf
from tests.processes import Program, run
from tests.training.networks import convnet, cross_entropy, images_and_labels
from tests.training.shrink_program import EPOCHS, METHOD, small_network

X, Y = images_and_labels()


class Diary(keras.callbacks.Callback):
    """What a callback sees of a run."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.seen = []
        self.stop_after = stop_after

    def on_train_begin(self, logs=None):
        self.seen.append("begin")

    def on_train_end(self, logs=None):
        self.seen.append("end")

    def on_epoch_end(self, epoch, logs=None):
        width = self.model.get_layer("first").filters
        self.seen.append((epoch, width, int(self.model.optimizer.iterations)))
        assert self.params["epochs"] == EPOCHS
        if epoch == self.stop_after:
            self.model.stop_training = True


def wrapped(optimizer=None, **options):
    options = {"method": METHOD, "seed": 5, "rate": 0.5} | options
    model = pgmpf_tf.wrap(convnet(), **options)
    model.compile(optimizer or keras.optimizers.Adam(0.01), cross_entropy())
    return model


def shrunk(model, *callbacks, **options):
    options = {"epochs": EPOCHS, "shuffle": False, "verbose": 0} | options
    return model.fit_and_shrink(X, Y, 8, callbacks=list(callbacks), **options)


def test_callbacks_and_history_see_one_run():
    diary = Diary()
    model = wrapped()
    small = shrunk(model, diary, validation_data=(X, Y))
    assert diary.seen == [
        "begin",
        *((epoch, 8 if epoch < 3 else 4, 4 * (epoch + 1)) for epoch in range(EPOCHS)),
        "end",
    ]
    assert not isinstance(small, pgmpf_tf.PrunedModel)
    assert small.compiled
    assert small.history.epoch == list(range(EPOCHS))
    history = small.history.history
    assert {"loss", "val_loss", "pruning_rate", "suppression", "weight_mask"} <= {
        *history
    }
    assert {len(values) for values in history.values()} == {EPOCHS}
    assert history["pruning_rate"][2:] == [0.5] * (EPOCHS - 2)
    assert history["suppression"][-1] == 1.0
    assert len(small.history.masks) == EPOCHS + 1
    kept = {name: mask.sum() for name, mask in small.history.masks[-1].items()}
    assert kept == {"first": 4, "second": 3}
    assert model.get_layer("first").filters == 8


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.05, momentum=0.9),
        lambda: keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(0.01, 32), use_ema=True
        ),
    ],
)
@pytest.mark.feature("`fit_and_shrink`")
def test_the_small_network_ends_as_the_masked_one_would(optimizer):
    masked = wrapped(optimizer())
    masked.fit(X, Y, 8, epochs=EPOCHS, shuffle=False, verbose=0)
    expected = pgmpf_tf.compact(masked)
    small = shrunk(wrapped(optimizer()))
    assert small.count_params() < 0.5 * masked.count_params()
    for variable, other in zip(
        small.trainable_variables, expected.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(variable, other, atol=1e-4, err_msg=variable.path)


def test_callbacks_that_compare_epochs_see_one_network(tmp_path):
    stop = keras.callbacks.EarlyStopping(
        "val_loss", mode="max", patience=2, restore_best_weights=True
    )
    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_loss", mode="max", patience=1, factor=0.5
    )
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", "val_loss", mode="max", save_best_only=True
    )
    diary = Diary()
    # The loss falls in each epoch, so the first one that they see is the best to them.
    small = shrunk(wrapped(), stop, plateau, best, diary, validation_data=(X, Y))
    assert stop.best_epoch == 3
    assert diary.seen[-2][0] == 5
    assert float(small.optimizer.learning_rate) == pytest.approx(0.0025)
    kept = keras.saving.load_model(tmp_path / "best.keras")
    for value, other in zip(kept.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize(("stop_after", "width"), [(2, 4), (4, 4)])
def test_a_callback_may_end_the_run_in_either_phase(stop_after, width):
    diary = Diary(stop_after)
    small = shrunk(wrapped(), diary)
    assert small.get_layer("first").filters == width
    assert small.history.epoch == list(range(stop_after + 1))
    assert diary.seen[-1] == "end"
    assert diary.seen.count("begin") == 1


def test_a_run_that_ends_before_pruning_does_says_so():
    with pytest.warns(UserWarning, match="not complete"):
        small = shrunk(wrapped(), Diary(0))
    assert small.history.epoch == [0]
    assert small.get_layer("first").filters > 4


def test_what_is_pruned_already_shrinks_at_once():
    model = wrapped()
    model.apply_masks()
    diary = Diary()
    shrunk(model, diary, initial_epoch=6)
    assert [entry[:2] for entry in diary.seen[1:-1]] == [(6, 4), (7, 4)]


@pytest.mark.parametrize("method", ["sfp", "asfp", "asrfp"])
def test_methods_that_prune_to_the_end_cannot_shrink(method):
    with pytest.raises(ValueError, match="done with pruning before the run ends"):
        shrunk(wrapped(method=method))


def test_a_run_killed_in_both_phases_ends_as_the_uninterrupted_one(tmp_path):
    program = ("tests.training.shrink_program", tmp_path)
    for epoch, batch in ((1, 2), (4, 1)):
        code, output = Program(*program, epoch, batch).finish()
        assert code == -signal.SIGKILL, output
    run(*program)
    end = dict(np.load(tmp_path / "end.npz"))
    assert end["epochs"].tolist() == [4, 5, 6, 7]
    whole = small_network([])
    assert end["last_loss"] == pytest.approx(
        whole.history.history["loss"][-1], abs=1e-5
    )
    for index, value in enumerate(whole.get_weights()):
        np.testing.assert_allclose(end[f"arr_{index}"], value, atol=1e-5)
    assert not (tmp_path / "backup").exists()
