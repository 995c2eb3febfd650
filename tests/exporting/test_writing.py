"""Files that a backend cannot write are written by a process that can."""

import importlib.util

import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.exporting import export, measure
from pgmpf_tf.exporting.formats.base import Precision
from pgmpf_tf.exporting.formats.registry import FORMATS
from pgmpf_tf.exporting.signature import Signature
from pgmpf_tf.exporting.writing import write_elsewhere
from tests.exporting import elsewhere_program
from tests.exporting.networks import convnet, images
from tests.exporting.own_layers import Deadly
from tests.other_backends import on_others, run_beside_tensorflow

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow"
)


@pytest.mark.slow
@on_others("`export` to every format")
def test_every_format_from_every_backend(backend, tmp_path):
    run_beside_tensorflow(backend, "-m", "tests.exporting.elsewhere_program", tmp_path)
    samples = np.load(tmp_path / "samples.npz")
    wanted = samples["outputs"]
    for name in elsewhere_program.FORMATS:
        quantized = name == "tflite"
        path = tmp_path / FORMATS[name].file_name("int8" if quantized else "float32")
        (found,) = FORMATS[name].load(path)({"image": samples["inputs"]}).values()
        deviation = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert deviation < (0.1 if quantized else 1e-4), name
        assert quantized == (deviation > 1e-4), name
    assert not list(tmp_path.glob(".export-*"))


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="there, it measures"
)
def test_what_is_measured_on_tensorflow_only_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="KERAS_BACKEND to tensorflow"):
        measure(convnet(), tmp_path / "table.json")
    assert not list(tmp_path.iterdir())


@needs_tensorflow
def test_a_file_is_the_same_whoever_writes_it(tmp_path):
    signature = Signature.of(convnet(), 2)
    precision = Precision("int8", {"image": images()}, integer_io=True)
    here, elsewhere = tmp_path / "here.tflite", tmp_path / "elsewhere.tflite"
    FORMATS["tflite"].write(signature, here, precision)
    write_elsewhere(FORMATS["tflite"], signature, elsewhere, precision)
    assert elsewhere.read_bytes() == here.read_bytes()


@keras.saving.register_keras_serializable("of_nobody")
class OfNobody(layers.Layer):
    """In no module that another process could import."""

    def call(self, x):
        return 2.0 * x


OfNobody.__module__ = "__main__"


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (OfNobody, ValueError, "a process on TensorFlow can load.*can be imported"),
        (Deadly, RuntimeError, "to write file has ended with status 7"),
    ],
)
@needs_tensorflow
def test_a_process_that_cannot_load_the_model(layer, error, message, tmp_path):
    inputs = keras.Input((3,))
    signature = Signature.of(keras.Model(inputs, layer()(inputs)))
    with pytest.raises(error, match=message):
        write_elsewhere(
            FORMATS["saved_model"], signature, tmp_path / "file", Precision()
        )


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is there"
)
def test_without_tensorflow_it_says_what_to_install(tmp_path):
    for format in ("saved_model", "tflite"):
        with pytest.raises(ImportError, match=r"needs tensorflow.*pip install tensor"):
            export(convnet(), tmp_path / "out", format)
    assert not list(tmp_path.iterdir())
    report = export(convnet(), tmp_path / "out", "keras", verification_data=images())
    assert report["keras"].max_deviation == 0.0
