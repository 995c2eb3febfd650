"""Exported files do what the model does, or are not there."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from pgmpf_tf.exporting import VerificationError, export
from pgmpf_tf.training.wrapping import wrap
from tests.exporting.networks import convnet, images


def two_headed(dictionary):
    """Two inputs of different dtypes, two outputs; names that need cleaning."""
    keras.utils.set_random_seed(0)
    image, token = keras.Input((6, 3), name="image"), keras.Input((4,), name="to-ken")
    token = keras.Input((4,), dtype="int32", name="to-ken")
    x = layers.Concatenate()(
        [layers.Flatten()(image), layers.Flatten()(layers.Embedding(5, 3)(token))]
    )
    first, second = layers.Dense(3, name="first")(x), layers.Dense(2, name="second")(x)
    if dictionary:
        return keras.Model({"image": image, "to-ken": token}, {"b": first, "a": second})
    return keras.Model([image, token], [first, second])


def tflite_signature(path):
    interpreter = Interpreter(str(path))
    return interpreter.get_signature_runner("serving_default")


@pytest.mark.parametrize("dictionary", [False, True])
def test_names_and_a_batch_that_varies_survive(tmp_path, dictionary):
    model = two_headed(dictionary)
    export(model, tmp_path)
    saved = tf.saved_model.load(str(tmp_path / "saved_model"))
    lite = tflite_signature(tmp_path / "model.tflite")
    names = ("b", "a") if dictionary else ("first", "second")
    for batch in (1, 5):
        image = np.random.default_rng(batch).normal(size=(batch, 6, 3))
        token = np.arange(4 * batch).reshape(batch, 4) % 5
        inputs = {"image": image.astype("float32"), "to_ken": token.astype("int32")}
        if dictionary:
            wanted = model({"image": inputs["image"], "to-ken": inputs["to_ken"]})
        else:
            wanted = dict(zip(names, model(list(inputs.values())), strict=True))
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        for outputs in (saved.signatures["serving_default"](**tensors), lite(**inputs)):
            assert sorted(outputs) == sorted(names)
            for name in names:
                np.testing.assert_allclose(outputs[name], wanted[name], atol=1e-5)


def test_a_fixed_batch_is_fixed(tmp_path):
    report = export(convnet(), tmp_path, batch_size=3)
    runner = tflite_signature(report["tflite"].path)
    assert list(runner.get_input_details()["image"]["shape_signature"]) == [3, 8, 8, 3]
    saved = tf.saved_model.load(str(report["saved_model"].path))
    _, specs = saved.signatures["serving_default"].structured_input_signature
    assert specs["image"].shape == (3, 8, 8, 3)


def test_the_report_is_what_is_measured(tmp_path):
    model, data = convnet(), images()
    report = export(
        model,
        tmp_path / "made" / "here",
        formats=("saved_model", "tflite", "keras"),
        verification_data=data,
    )
    assert [a.format for a in report.artifacts] == ["saved_model", "tflite", "keras"]
    assert (report.samples, report.random) == (16, False)
    lite = report["tflite"]
    outputs = tflite_signature(lite.path)(image=data)["scores"]
    wanted = model(data).numpy()
    deviation = np.abs(outputs - wanted) / np.abs(wanted).max()
    assert lite.max_deviation == pytest.approx(deviation.max(), abs=1e-7)
    assert lite.mean_deviation == pytest.approx(deviation.mean(), abs=1e-7)
    assert lite.top1_agreement == 1.0
    assert lite.bytes == lite.path.stat().st_size
    assert lite.latency_ms > 0
    assert report["keras"].latency_ms is None
    folder = report["saved_model"]
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert folder.bytes == sum(path.stat().st_size for path in files)
    again = keras.models.load_model(report["keras"].path)
    np.testing.assert_array_equal(again(data), wanted)
    with pytest.raises(KeyError):
        report["onnx"]


def test_files_hold_constants_and_built_in_operations_only(tmp_path):
    report = export(convnet(), tmp_path, formats="tflite")
    interpreter = Interpreter(str(report["tflite"].path))
    operations = {detail["op_name"] for detail in interpreter._get_ops_details()}
    assert operations <= {"CONV_2D", "MEAN", "FULLY_CONNECTED", "DELEGATE"}


def test_a_wrapped_model_is_compacted_first(tmp_path):
    model = convnet()
    pruned = wrap(model, rate=0.5)
    pruned.apply_masks()
    report = export(pruned, tmp_path, formats=("keras", "tflite"))
    small = keras.models.load_model(report["keras"].path)
    assert small.get_layer("stem").filters == 4
    outputs = tflite_signature(report["tflite"].path)(image=images())["scores"]
    np.testing.assert_allclose(outputs, pruned(images()), atol=1e-5)


def test_sequential_and_subclassed_models(tmp_path):
    class Doubled(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return 2 * self.dense(x)

    data = np.ones((2, 5), "float32")
    subclassed = Doubled()
    subclassed(data)
    sequential = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    for name, model in (("subclassed", subclassed), ("sequential", sequential)):
        report = export(model, tmp_path / name, formats="tflite")
        runner = tflite_signature(report["tflite"].path)
        (name,) = runner.get_input_details()
        (output,) = runner(**{name: data}).values()
        np.testing.assert_allclose(output, model(data), rtol=1e-5)


def test_sizes_may_vary(tmp_path):
    image = keras.Input((None, None, 3), name="image")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="stem")(image))
    model = keras.Model(image, x)
    data = np.ones((2, 9, 7, 3), "float32")
    report = export(model, tmp_path, verification_data=data)
    runner = tflite_signature(report["tflite"].path)
    for shape in ((2, 9, 7, 3), (1, 12, 5, 3)):
        data = np.random.default_rng(0).normal(size=shape).astype("float32")
        (output,) = runner(image=data).values()
        np.testing.assert_allclose(output, model(data), atol=1e-5)


def test_what_was_there_is_replaced(tmp_path):
    for classes in (4, 3):
        export(convnet(classes=classes), tmp_path)
        (tmp_path / "mine.txt").write_text("stays")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.txt",
        "model.tflite",
        "saved_model",
    ]
    assert tflite_signature(tmp_path / "model.tflite")(image=images())[
        "scores"
    ].shape == (16, 3)


def test_a_deviation_over_the_bound_raises_and_keeps_nothing(tmp_path):
    target = tmp_path / "deep" / "target"
    with pytest.raises(VerificationError, match=r"model_float16.*tolerance=1e-07"):
        export(
            convnet(),
            target,
            formats=("saved_model", "tflite"),
            quantize="float16",
            tolerance=1e-7,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_older_files(tmp_path):
    model = convnet()
    before = export(model, tmp_path, formats="tflite")["tflite"].path.read_bytes()
    with pytest.raises(VerificationError):
        export(model, tmp_path, formats="tflite", tolerance=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]
    assert (tmp_path / "model.tflite").read_bytes() == before


def test_operations_without_a_built_in_counterpart_are_named(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.ops.erfinv(layers.Dense(4)(inputs)))
    with pytest.raises(ValueError, match=r"(?i)`model` must .*erfinv"):
        export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
