"""Stop and go: a wrapped model is saved, restored and resumed whole."""

import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from pgmpf_tf.methods import schedules
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.training.model import PrunedModel
from pgmpf_tf.training.wrapping import wrap
from tests.processes import Program, run
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
)


def compiled(**options):
    model = wrap(convnet(), 0.5, **options)
    model.compile(keras.optimizers.Adam(0.01), cross_entropy())
    return model


def fit(model, epochs, initial_epoch=0):
    x, y = images_and_labels()
    return model.fit(
        x,
        y,
        8,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
    ).history


def assert_same_state(model, other):
    pairs = [
        (model.variables, other.variables),
        (model.optimizer.variables, other.optimizer.variables),
        (model.pruning_state.variables, other.pruning_state.variables),
    ]
    for ours, theirs in pairs:
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=a.path)


@keras.saving.register_keras_serializable("tests")
def largest_weight(filters):
    """A criterion of the user's own."""
    return np.abs(filters).max(axis=1)


@pytest.mark.feature("`.keras` files of wrapped models")
def test_a_saved_model_goes_on_as_if_nothing_had_happened(tmp_path):
    model = compiled(
        epochs=6,
        seed=9,
        criterion=largest_weight,
        method=PruningConfig.preset(
            "pgmpf_published", suppression=schedules.published_cosine()
        ),
        exclude="second",
        round_to=3,
    )
    fit(model, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, PrunedModel)
    assert loaded.get_config()["pruning"] == model.get_config()["pruning"]
    assert_same_state(loaded, model)
    expected = fit(model, 6, 3)
    assert fit(loaded, 6, 3) == expected
    assert_same_state(loaded, model)
    assert loaded.masks()["first"].sum() == 6  # 4 rounded up to a multiple of 3
    assert loaded.pruning_values()["suppression"] == 1.0


def test_a_run_resumed_by_weights_has_the_length_that_fit_says(tmp_path):
    whole, first, second = compiled(seed=1), compiled(seed=1), compiled(seed=2)
    expected = fit(whole, 6)

    def stop(epoch, logs):
        if epoch == 2:
            first.save_weights(tmp_path / "model.weights.h5")
            raise KeyboardInterrupt

    x, y = images_and_labels()
    with pytest.raises(KeyboardInterrupt):
        first.fit(
            x,
            y,
            8,
            epochs=6,
            shuffle=False,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=stop)],
        )
    second.optimizer.build(second.trainable_variables)
    second.load_weights(tmp_path / "model.weights.h5")
    history = fit(second, 6, 3)
    assert history == {name: values[3:] for name, values in expected.items()}
    assert_same_state(second, whole)


def test_weights_pass_between_a_model_and_its_wrapped_self(tmp_path):
    plain, model = convnet(), compiled()
    model.apply_masks()
    model.save_weights(tmp_path / "wrapped.weights.h5")
    plain.load_weights(tmp_path / "wrapped.weights.h5")
    for a, b in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    plain = convnet()
    plain.save_weights(tmp_path / "plain.weights.h5")
    other = compiled()
    other.load_weights(tmp_path / "plain.weights.h5")
    for a, b in zip(plain.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert other.masks()["first"].all()


def test_the_plain_model_s_weights_and_parameters_are_what_keras_counts():
    plain = convnet()
    model = wrap(plain, 0.5)
    assert model.count_params() == plain.count_params()
    assert [w.path for w in model.weights] == [w.path for w in plain.weights]
    assert [layer.name for layer in model.layers] == [
        layer.name for layer in plain.layers
    ]
    assert all(a is b for a, b in zip(model.weights, plain.weights, strict=True))


def test_a_layer_thawed_after_the_wrap_does_not_keep_the_file_from_loading(tmp_path):
    plain = convnet()
    plain.get_layer("second").trainable = False
    model = wrap(plain, 0.5, epochs=2)
    model.apply_masks()
    assert model.masks()["second"].all()  # frozen filters stay
    plain.get_layer("second").trainable = True
    model.compile(keras.optimizers.Adam(0.01), cross_entropy())
    fit(model, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.masks().keys() == model.masks().keys()
    assert loaded.get_layer("second").trainable
    assert_same_state(loaded, model)
    model.apply_masks()
    assert not model.masks()["second"].all()


@pytest.mark.feature("`kill -9`, then resume")
def test_a_run_killed_in_mid_epoch_ends_as_the_uninterrupted_one(tmp_path):
    program = ("tests.training.resume_program", tmp_path)
    code, output = Program(*program, 3, 1).finish()
    assert code == -signal.SIGKILL, output
    run(*program)
    end = dict(np.load(tmp_path / "end.npz"))
    assert end["epochs"] == 3  # epochs 3, 4 and 5
    seed = int((tmp_path / "seed.txt").read_text())
    assert end["seed"] == seed
    whole = compiled(seed=seed)
    history = fit(whole, 6)
    assert end["last_loss"] == pytest.approx(history["loss"][-1], abs=1e-5)
    for group, mask in whole.masks().items():
        np.testing.assert_array_equal(end[f"mask {group}"], mask)
    for index, value in enumerate(whole.get_weights()):
        np.testing.assert_allclose(end[f"arr_{index}"], value, atol=1e-5)
    assert_pruned(whole)


WITHOUT_THE_IMPORT = """
import keras
try:
    keras.saving.load_model({path!r})
except TypeError as error:
    assert "pgmpf_tf>PrunedModel" in str(error)
else:
    raise AssertionError("It was loaded")
import pgmpf_tf
keras.saving.load_model({path!r})
"""


def test_without_the_import_the_error_names_the_package(tmp_path):
    path = tmp_path / "model.keras"
    compiled().save(path)
    code = WITHOUT_THE_IMPORT.format(path=str(path))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
