"""The way through tfmot: an equal tf_keras model, training as int8, an int8 file."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from keras import layers, ops

from experiments.networks import models
from pgmpf_tf.exporting import export, quantize_aware, to_tf_keras
from pgmpf_tf.training.wrapping import wrap
from tests.exporting.networks import convnet, images


def stirred(model):
    """Weights that no initializer gives: moving statistics, offsets and all."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.name else -0.5
        weight.assign(generator.uniform(low, 1.0, weight.shape))
    return model


def resnet():
    return models.build("resnet8", input_shape=(8, 8, 3), num_classes=5)


def many_layers():
    image = keras.Input((9, 8, 3), name="image")
    x = layers.ZeroPadding2D(((1, 0), (0, 1)))(image)
    x = layers.SeparableConv2D(6, 3, strides=2, name="separable")(x)
    x = layers.BatchNormalization(epsilon=0.1, scale=False)(x)
    x = layers.LeakyReLU(negative_slope=0.4)(x)
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
    y = layers.Conv2D(6, 1, kernel_regularizer="l2", activation="relu")(y)
    x = layers.Concatenate()([x, y])
    x = layers.Conv2DTranspose(4, 3, strides=2, use_bias=False)(x)
    x = layers.AveragePooling2D(2)(layers.ReLU(6.0, 0.1, 0.2)(x))
    x = layers.Dropout(0.5)(layers.UpSampling2D()(x))
    scores = layers.BatchNormalization()(layers.Dense(4)(layers.Flatten()(x)))
    return keras.Model(image, [scores, layers.Softmax()(scores)])


def operations():
    image = keras.Input((7, 8, 2), name="image")
    x = ops.pad(image[:, ::2, ::3], ((0, 0), (1, 2), (0, 1), (2, 1)))
    x = layers.Conv2D(3, 3)(ops.relu(x))
    return keras.Model(image, layers.GlobalMaxPooling2D()(x + ops.relu6(x)))


def several():
    left, right = keras.Input((5,), name="left"), keras.Input((3,), name="right")
    x = layers.Dense(4, name="shared")
    merged = layers.Concatenate()([x(layers.Dense(6)(left)), x(layers.Dense(6)(right))])
    return keras.Model([left, right], {"b": layers.Dense(2)(merged), "a": merged})


@pytest.mark.parametrize("make", [resnet, many_layers, operations, several])
def test_outputs_are_equal(make):
    model = stirred(make())
    legacy = to_tf_keras(model)
    assert isinstance(legacy, tf_keras.Model)
    generator = np.random.default_rng(1)
    inputs = [generator.normal(size=(3, *x.shape[1:])) for x in model.inputs]
    wanted = keras.tree.flatten(model(inputs))
    got = keras.tree.flatten(legacy(inputs))
    for ours, theirs in zip(wanted, got, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
    assert [x.name for x in legacy.inputs] == [x.name for x in model.inputs]


def test_layers_keep_their_names_and_what_training_needs():
    model = many_layers()
    legacy = to_tf_keras(model)
    for layer in model.layers:
        assert type(layer).__name__ == type(legacy.get_layer(layer.name)).__name__
    assert legacy.losses
    np.testing.assert_allclose(
        float(sum(legacy.losses)), float(sum(model.losses)), rtol=1e-6
    )


@pytest.mark.parametrize("make", [many_layers, operations, several])
def test_what_becomes_tf_keras_becomes_quantization_aware(make):
    model = stirred(make())
    aware = quantize_aware(model)
    data = [np.ones((2, *x.shape[1:])) for x in model.inputs]
    shapes = [x.shape for x in keras.tree.flatten(aware(data))]
    assert shapes == [x.shape for x in keras.tree.flatten(model(data))]


def test_quantization_aware_training_ends_in_an_int8_file(tmp_path):
    model = convnet()
    pruned = wrap(model, rate=0.5)
    pruned.apply_masks()
    aware = quantize_aware(pruned)
    data, labels = images(64), np.arange(64) % 4
    aware.compile(
        tf_keras.optimizers.SGD(0.1),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = aware.fit(data, labels, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    report = export(
        aware,
        tmp_path,
        formats="tflite",
        quantize="int8",
        verification_data=data,
        integer_io=True,
    )
    artifact = report["tflite"]
    assert artifact.mean_deviation < 0.03
    interpreter = Interpreter(str(artifact.path))
    ((name, outputs),) = interpreter.get_signature_list().items()
    assert (name, outputs) == (
        "serving_default",
        {"inputs": ["image"], "outputs": ["scores"]},
    )
    dtypes = {np.dtype(t["dtype"]).name for t in interpreter.get_tensor_details()}
    assert dtypes <= {"int8", "int32"}
    shapes = {tuple(t["shape"]) for t in interpreter.get_tensor_details()}
    assert (4, 3, 3, 3) in shapes  # half of the 8 filters


def test_the_aware_model_starts_from_the_weights_and_shares_none():
    model = convnet()
    before = [np.array(weight) for weight in model.weights]
    aware = quantize_aware(to_tf_keras(model))
    kernel = aware.get_layer("stem").get_weights()[0]
    np.testing.assert_array_equal(kernel, before[0])
    aware.compile("sgd", "mse")
    aware.fit(images(), np.ones((16, 4)), verbose=0)
    assert not np.array_equal(aware.get_layer("stem").get_weights()[0], kernel)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_a_tf_keras_model_has_no_keras_file(tmp_path):
    with pytest.raises(ValueError, match=r"formats.*tf_keras.*'keras'"):
        export(to_tf_keras(convnet()), tmp_path, formats=("tflite", "keras"))


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (lambda: layers.PReLU(name="slopes"), "'slopes' (PReLU)"),
        (
            lambda: layers.BatchNormalization(name="lonely"),
            "'lonely' (BatchNormalization)",
        ),
        (lambda: layers.Rescaling(2.0, name="scaled"), "'scaled' (Rescaling)"),
        (lambda: lambda x: ops.take(x, [1, 0], axis=-1), "(Take)"),
        (lambda: lambda x: ops.pad(x, 1, mode="reflect"), "(Pad)"),
        (lambda: lambda x: x[:, 1:], "(GetItem)"),
        (lambda: lambda x: x + 1.0, "(Add)"),
    ],
)
def test_what_tfmot_cannot_quantize_is_named(layer, name):
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, layer()(layers.ReLU()(image)))
    with pytest.raises(ValueError, match="tfmot can quantize") as error:
        to_tf_keras(model)
    assert name in str(error.value)


def test_what_is_no_model_is_an_error():
    for function in (to_tf_keras, quantize_aware):
        with pytest.raises(TypeError, match=r"keras\.Model"):
            function(3)


def test_without_tfmot_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    with pytest.raises(ImportError, match=r"pip install 'pgmpf_tf\[tfmot\]'"):
        quantize_aware(convnet())


def test_the_rest_of_the_process_keeps_its_keras():
    code = (
        "import os, keras, tensorflow as tf\n"
        "from pgmpf_tf.exporting import quantize_aware\n"
        "from tests.exporting.networks import convnet\n"
        "quantize_aware(convnet())\n"
        "assert 'TF_USE_LEGACY_KERAS' not in os.environ\n"
        "assert vars(tf)['keras'].Model is keras.Model\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_process_that_has_the_old_keras_already_keeps_it():
    code = (
        "import os, tensorflow as tf\n"
        "tf.keras.layers\n"
        "from pgmpf_tf.exporting import quantize_aware\n"
        "from tests.exporting.networks import convnet\n"
        "quantize_aware(convnet())\n"
        "assert os.environ['TF_USE_LEGACY_KERAS'] == '1'\n"
    )
    environment = os.environ | {"TF_USE_LEGACY_KERAS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
