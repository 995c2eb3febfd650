"""Files of a small network are those of the same architecture built narrow."""

from collections import Counter

import keras
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import pgmpf_tf
from tests.exporting.networks import images
from tests.graphs import randomize


def network(width):
    """A residual stream, a depthwise convolution, a Concatenate and a wide head."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(2 * width, 3, padding="same", name="stem")(image)
    x = layers.BatchNormalization(name="stem_norm")(x)
    y = layers.Conv2D(4 * width, 1, use_bias=False, name="expand")(x)
    y = layers.BatchNormalization(name="expand_norm")(y)
    y = layers.ReLU(6.0, name="relu6")(y)
    y = layers.DepthwiseConv2D(3, padding="same", name="depth")(y)
    y = layers.Conv2D(2 * width, 1, name="project")(y)
    x = layers.Add(name="sum")([x, y])
    branch = layers.Conv2D(width, 3, padding="same", activation="relu", name="side")(x)
    x = layers.Concatenate(name="join")([x, branch])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(6 * width, activation="relu", name="hidden")(x)
    model = keras.Model(image, layers.Dense(4, name="scores")(x), name="network")
    randomize(model, 0)
    return model


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """By precision, what is written of the small and of the narrow network."""
    wrapped = pgmpf_tf.wrap(network(16), 0.5, seed=0)
    wrapped.apply_masks()
    networks = {"small": pgmpf_tf.compact(wrapped), "narrow": network(8)}
    found = {}
    for name, model in networks.items():
        folder = tmp_path_factory.mktemp(name)
        found[name] = pgmpf_tf.export(
            model,
            folder,
            ("tflite", "saved_model", "keras", "onnx", "openvino"),
            verbose=False,
        ).artifacts
        found[name] += pgmpf_tf.export(
            model,
            folder,
            "tflite",
            quantize="int8",
            representative_data=images(32),
            min_agreement=0,
            tolerance=1,
            verbose=False,
        ).artifacts
    return list(zip(found["small"], found["narrow"], strict=True))


def test_files_have_the_same_size(exports):
    assert len(exports) == 6
    for small, narrow in exports:
        # Files hold dates, identifiers and compressed random weights.
        slack = 0 if small.format == "tflite" else 0.01
        assert small.bytes == pytest.approx(narrow.bytes, rel=slack), small.path.name


def lite_operations(path):
    details = Interpreter(str(path))._get_ops_details()
    return Counter(detail["op_name"] for detail in details)


def onnx_operations(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_files_have_the_same_operations(exports):
    read = {"tflite": lite_operations, "onnx": onnx_operations}
    compared = [pair for pair in exports if pair[0].format in read]
    assert len(compared) == 3
    for small, narrow in compared:
        operations = read[small.format](small.path)
        assert operations == read[narrow.format](narrow.path)
        assert sum(operations.values()) > 5
