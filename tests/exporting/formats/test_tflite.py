"""Four precisions: size, integer arithmetic, calibration, and thresholds."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers, ops

from pgmpf_tf.exporting import VerificationError, export
from tests.exporting.networks import convnet, images


def tensors(path):
    """The dtypes of a file's inputs, and of everything in it, as written."""
    interpreter = Interpreter(
        str(path), experimental_preserve_all_tensors=True, num_threads=1
    )
    # Without XNNPACK's own tensors, which appear on allocation.
    everything = {np.dtype(t["dtype"]).name for t in interpreter.get_tensor_details()}
    ports = interpreter.get_input_details() + interpreter.get_output_details()
    return {np.dtype(port["dtype"]).name for port in ports}, everything


def test_each_precision_is_smaller_and_agrees(tmp_path):
    model, data = convnet(filters=256, classes=10), images(64)
    sizes = {}
    for quantize in (None, "float16", "dynamic", "int8"):
        (artifact,) = export(
            model,
            tmp_path,
            formats="tflite",
            quantize=quantize,
            representative_data=data,
            min_agreement=0.8,
        ).artifacts
        assert artifact.precision == (quantize or "float32")
        sizes[quantize] = artifact.bytes
    weights = (
        model.get_layer("stem").count_params()
        + model.get_layer("scores").count_params()
    )
    assert sizes[None] - sizes["float16"] > 1.8 * weights
    assert sizes[None] - sizes["dynamic"] > 2.5 * weights
    assert sizes[None] - sizes["int8"] > 1.8 * weights
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("integer_io", [False, True])
def test_int8_computes_in_integers(tmp_path, integer_io):
    report = export(
        convnet(),
        tmp_path,
        formats="tflite",
        quantize="int8",
        representative_data=images(64),
        integer_io=integer_io,
        tolerance=0.1,
    )
    ports, everything = tensors(report["tflite"].path)
    assert ports == {"int8" if integer_io else "float32"}
    assert everything <= {"int8", "int32"} | ports


def test_int8_of_several_inputs_and_a_fixed_batch(tmp_path):
    first, second = keras.Input((4,), name="first"), keras.Input((3,), name="second")
    total = layers.Dense(5)(layers.Concatenate()([first, second]))
    model = keras.Model([first, second], total)
    generator = np.random.default_rng(0)
    data = {
        "first": generator.normal(size=(21, 4)),
        "second": 100 * generator.normal(size=(21, 3)),
    }
    report = export(
        model,
        tmp_path,
        formats="tflite",
        quantize="int8",
        representative_data=data,
        verification_data=data,
        batch_size=4,
        tolerance=0.05,
    )
    assert report.samples == 21


def test_the_representative_data_set_the_ranges(tmp_path):
    """Ranges of data a thousand times too small clip nearly everything."""
    model, data = convnet(), images(32)
    options = {"formats": "tflite", "quantize": "int8"}
    options |= {"min_agreement": 0.0, "tolerance": 10.0}
    good = export(model, tmp_path, representative_data=data, **options)
    bad = export(
        model,
        tmp_path,
        representative_data=data / 1000,
        verification_data=data,
        **options,
    )
    assert bad["tflite"].max_deviation > 10 * good["tflite"].max_deviation


def test_too_little_agreement_raises_and_keeps_nothing(tmp_path):
    """Two classes whose scores differ by less than a step of int8."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, use_bias=False)])
    column = np.random.default_rng(0).normal(size=(4, 1))
    nearly = column + 1e-4 * np.random.default_rng(1).normal(size=(4, 1))
    model.set_weights([np.concatenate([column, nearly, -99 + 0 * column], axis=1)])
    data = np.random.default_rng(2).uniform(0.1, 1, size=(64, 4)).astype("float32")
    arguments = {
        "formats": "tflite",
        "quantize": "int8",
        "representative_data": data,
    }
    with pytest.raises(VerificationError, match=r"agree.*min_agreement=0\.9"):
        export(model, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
    report = export(model, tmp_path / "out", min_agreement=0.1, **arguments)
    assert 0.1 <= report["tflite"].top1_agreement < 0.9


@pytest.mark.parametrize("cell", [layers.LSTM, layers.GRU])
def test_recurrent_layers_need_a_fixed_batch_and_say_so(tmp_path, cell):
    inputs = keras.Input((5, 3), name="x")
    model = keras.Model(inputs, layers.Dense(2)(cell(4)(inputs)))
    with pytest.raises(ValueError, match=r"`batch_size` must be given.*recurrent"):
        export(model, tmp_path / "out", "tflite", verbose=False)
    report = export(model, tmp_path, "tflite", batch_size=1, verbose=False)
    assert report["tflite"].max_deviation < 1e-5


def test_int16x8_is_closer_than_int8(tmp_path):
    model, data = convnet(filters=32, classes=10), images(64)
    errors = {}
    for quantize in ("int8", "int16x8"):
        report = export(
            model,
            tmp_path,
            "tflite",
            quantize=quantize,
            representative_data=data,
            min_agreement=0.5,
            verbose=False,
        )
        errors[quantize] = report["tflite"].relative_error
    assert errors["int16x8"] < errors["int8"]
    ports, everything = tensors(tmp_path / "model_int16x8.tflite")
    assert ports == {"float32"}
    assert {"int8", "int16"} <= everything


@pytest.mark.parametrize("classes", [1, 3])
def test_outputs_without_classes_are_held_to_an_error(tmp_path, classes):
    """Ranges of data a thousand times too small, and no classes to disagree on."""
    model, data = convnet(classes=classes), images(32)
    with pytest.raises(VerificationError, match="variation"):
        export(
            model,
            tmp_path / "out",
            "tflite",
            quantize="int8",
            representative_data=data / 1000,
            verification_data=data,
            min_agreement=None if classes == 1 else 0,
            verbose=False,
        )


def test_quantized_files_have_their_normalizations_folded(tmp_path):
    """Channels that differ a thousandfold in range, made equal by what follows."""
    image = keras.Input((8, 8, 3), name="image")
    convolution = layers.Conv2D(8, 3, activation="relu")
    norm = layers.BatchNormalization()
    x = norm(convolution(image))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(x))
    model = keras.Model(image, layers.Dense(4, name="scores")(x))
    ranges = np.geomspace(1, 1000, 8)
    convolution.kernel.assign(convolution.kernel * ranges)
    norm.moving_variance.assign(ranges**2)
    report = export(
        model,
        tmp_path,
        "tflite",
        quantize="int8",
        representative_data=images(64),
        min_agreement=0,
        tolerance=10,
        verbose=False,
    )
    interpreter = Interpreter(str(report["tflite"].path))
    operations = {detail["op_name"] for detail in interpreter._get_ops_details()}
    assert not operations & {"MUL", "ADD"}
    assert report["tflite"].relative_error < 0.1


SHIFTS = {
    "both axes": {"shift": (-1, 2), "axis": (1, 2)},
    "one axis": {"shift": 9, "axis": -2},
    "not at all": {"shift": (6, 0), "axis": (1, 2)},
}


@keras.saving.register_keras_serializable("tests")
class SkippedAtTimes(layers.Layer):
    """Stochastic depth: at inference it is no operation."""

    def call(self, x, training=False):
        if not training:
            return x
        return x * ops.cast(
            keras.random.uniform((ops.shape(x)[0], 1, 1, 1)) > 0.1, x.dtype
        )


@keras.saving.register_keras_serializable("tests")
class Shifted(layers.Layer):
    """TFLite has no roll: here inside a layer, as in shifted windows."""

    def __init__(self, shift, axis):
        super().__init__()
        self.shift, self.axis = shift, axis
        self.dense, self.skipped = layers.Dense(4), SkippedAtTimes()

    def build(self, shape):
        self.dense.build(shape)
        self.offset = self.add_weight(shape=(4,), initializer="normal", name="offset")

    def call(self, x):
        return self.skipped(
            ops.roll(self.dense(x) + self.offset, self.shift, self.axis)
        )


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_roll_becomes_slices(tmp_path, shift):
    x = keras.Input((6, 5, 3), name="x")
    y = layers.Conv2D(2, 3, name="y")(Shifted(**SHIFTS[shift])(x))
    model = keras.Model(x, y)
    export(model, tmp_path, formats="tflite", tolerance=1e-6)
    data = np.random.default_rng(0).uniform(size=(32, 6, 5, 3))
    options = {"quantize": "int8", "representative_data": data}
    report = export(model, tmp_path, "tflite", min_agreement=0, **options)
    # Another place would be as far off as an output is large.
    assert report["tflite"].relative_error < 0.2


def test_what_has_no_form_is_named(tmp_path):
    x = keras.Input((4, 4))
    model = keras.Model(x, ops.fft2((x, x * 0.0))[0])
    with pytest.raises(ValueError, match=r"it has none for .*(FFT2D|Complex)"):
        export(model, tmp_path, formats="tflite")
