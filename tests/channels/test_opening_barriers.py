"""Layers that cannot be opened: barriers with a reason, and the same function."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.channels.graph import trace
from tests.composites import Mlp, through
from tests.graphs import deviation, outputs_of, samples


class Own(layers.Layer):
    """A dense layer, and then something that cannot be a part of a graph."""

    def __init__(self, then, **options):
        super().__init__(**options)
        self.dense, self.then = layers.Dense(8), then
        self.seeds = keras.random.SeedGenerator(1)

    def build(self, shape):
        self.dense.build(shape)
        self.count = self.add_weight(shape=(), name="count", trainable=False)

    def call(self, x, training=None):
        return self.then(self, self.dense(x), training)


def counted(layer, x, training):
    layer.count.assign(layer.count + 1)
    return x


def lossy(layer, x, training):
    layer.add_loss(ops.mean(x))
    return x


CANNOT = {
    "the size of the batch": (
        lambda _, x, t: x * ops.cast(ops.shape(x)[0], "float32"),
        "depends on the batch",
    ),
    "the place in the batch": (
        lambda _, x, t: (
            x + ops.reshape(ops.arange(ops.shape(x)[0], dtype="float32"), (-1, 1, 1))
        ),
        "depends on the batch",
    ),
    "a choice": (
        lambda _, x, t: ops.cond(ops.sum(x) > 0, lambda: x, lambda: -x),
        "function",
    ),
    "noise of NumPy": (
        lambda _, x, t: x * np.random.default_rng().random(8).astype("float32"),
        "depends on the batch, or on training",
    ),
    "random draws": (
        lambda self, x, t: x * keras.random.uniform((8,), seed=self.seeds),
        "random",
    ),
    "a branch in training": (lambda _, x, t: ops.relu(x) if t else x, "in training"),
    "a number in training": (lambda _, x, t: x * (2 if t else 1), "on training"),
    "a loss": (lossy, "add_loss"),
    "state": (counted, "assign"),
    "another layer's weight": (
        lambda self, x, t: ops.matmul(x, self.dense.kernel),
        "uses a weight of another layer",
    ),
    "values of weights": (
        lambda self, x, t: ops.matmul(x, ops.transpose(self.dense.kernel)),
        "reads the weight",
    ),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_be_opened_is_a_barrier_with_the_reason(case):
    then, reason = CANNOT[case]
    model = through(Own(then, name="own"))
    (node,) = (n for n in trace(model).nodes if n.path.startswith("own"))
    assert isinstance(node.operation, Own)
    assert reason in node.reason
    pins = {pin.layer: pin.reason for pin in analyze(model).pins}
    assert reason in pins["own"]
    small = pgmpf_tf.compact(model)
    x = samples(model)
    if "random" not in reason and "noise" not in case:
        assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6


class NotByDefault(Own):
    """As most layers are written: `training` has a default, which Keras records."""

    def call(self, x, training=False):
        return super().call(x, training)


@pytest.mark.parametrize("case", ["a branch in training", "a number in training"])
def test_a_default_of_training_does_not_say_that_it_never_trains(case):
    model = through(NotByDefault(CANNOT[case][0], name="own"))
    assert CANNOT[case][1] in {p.layer: p.reason for p in analyze(model).pins}["own"]
    small, x = pgmpf_tf.compact(model), samples(model)
    expected = model(x, training=True)
    assert deviation([expected], [model(x, training=False)]) > 0.01
    assert deviation([expected], [small(x, training=True)]) < 2e-6


def test_one_layer_that_cannot_be_opened_does_not_close_the_others():
    class Both(layers.Layer):
        def __init__(self):
            super().__init__(name="both")
            self.mlp, self.own = Mlp(8, 6, name="mlp"), Own(lossy, name="own")

        def build(self, shape):
            self.mlp.build(shape)
            self.own.build(shape)

        def call(self, x):
            return self.own(self.mlp(x))

    paths = [node.path for node in trace(through(Both())).nodes]
    assert "both/mlp/expand" in paths
    assert "both/own" in paths
