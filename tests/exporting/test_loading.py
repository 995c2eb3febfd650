"""Files that somebody else saved load, or the error says what to do."""

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.exporting import export
from pgmpf_tf.exporting.loading import load_network
from tests.exporting.networks import convnet, images


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_a_model_was_compiled_with_is_not_needed(tmp_path, suffix):
    model = convnet()
    model.compile("adam", "mse")
    path = tmp_path / f"model{suffix}"
    model.save(path)
    if suffix == ".keras":
        spoil_compile_settings(path)
        with pytest.raises(Exception, match="reduction"):
            keras.models.load_model(path)
    np.testing.assert_array_equal(load_network(path)(images()), model(images()))


def spoil_compile_settings(path):
    """A loss with settings of another version of Keras."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    loss = {"module": "keras.losses", "class_name": "MeanSquaredError"}
    loss["config"] = {"reduction": "auto of old", "fn": None}
    config["compile_config"]["loss"] = loss
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_a_saved_model_is_refused_with_what_to_do(tmp_path):
    export(convnet(), tmp_path, "saved_model", verbose=False)
    with pytest.raises(ValueError, match=r"SavedModel.*model\.save\('model\.keras'\)"):
        load_network(tmp_path / "saved_model")


def test_what_is_nothing_of_that_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.keras"):
        load_network(tmp_path / "missing.keras")
    with pytest.raises(ValueError, match="folder of a KerasHub preset"):
        load_network(make(tmp_path / "model.pt"))
    with pytest.raises(ValueError, match=r"config\.json of a KerasHub preset"):
        load_network(tmp_path)
    with pytest.raises(ValueError, match=r"cannot load.*broken\.keras"):
        load_network(make(tmp_path / "broken.keras"))


def make(path):
    path.write_text("nothing")
    return path


def test_weights_alone_are_no_model(tmp_path):
    model = convnet()
    path = tmp_path / "only.weights.h5"
    model.save_weights(path)
    with pytest.raises(ValueError, match="holds no model"):
        load_network(path)


def test_code_in_a_file_runs_only_if_it_is_trusted(tmp_path):
    image = keras.Input((4,))
    model = keras.Model(image, layers.Lambda(lambda x: 2 * x)(layers.Dense(3)(image)))
    path = tmp_path / "model.keras"
    model.save(path)
    with pytest.raises(ValueError, match="--trust"):
        load_network(path)
    x = np.ones((2, 4))
    np.testing.assert_array_equal(load_network(path, trusted=True)(x), model(x))


def test_layers_that_nobody_registered_are_asked_for(tmp_path):
    class Own(layers.Layer):
        def call(self, x):
            return 2 * x

    image = keras.Input((4,))
    path = tmp_path / "model.keras"
    keras.Model(image, Own()(layers.Dense(3)(image))).save(path)
    with pytest.raises(ValueError, match="--import"):
        load_network(path)
