"""Queries and keys that are normalized head by head: heads are still units."""

import itertools

import keras
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import deviation, outputs_of, randomize, samples

STEPS, HEADS, SIZE = 5, 4, 6
NORMS = {
    "rms": layers.RMSNormalization,
    "unit": layers.UnitNormalization,
    "layer": layers.LayerNormalization,
    "layer without offset": lambda: layers.LayerNormalization(center=False),
}


@keras.saving.register_keras_serializable("tests")
class WrittenNorm(layers.Layer):
    """As models of one's own have it: a mean of squares, and a weight."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        squares = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return x * ops.rsqrt(squares + 1e-6) * self.scale


NORMS["written"] = WrittenNorm


def projections(x, fused):
    if fused:
        y = layers.Dense(3 * HEADS * SIZE, name="qkv")(x)
        return ops.unstack(ops.reshape(y, (-1, STEPS, 3, HEADS, SIZE)), axis=2)
    return [
        layers.EinsumDense("btc,chd->bthd", (None, HEADS, SIZE), bias_axes="hd")(x)
        for _ in range(3)
    ]


def network(norm, fused):
    x = keras.Input((STEPS, 8))
    q, k, v = projections(x, fused)
    y = ops.dot_product_attention(NORMS[norm]()(q), NORMS[norm]()(k), v)
    y = layers.Dense(10, name="out")(ops.reshape(y, (-1, STEPS, HEADS * SIZE)))
    model = keras.Model(x, layers.Dense(3)(layers.ReLU()(y)))
    randomize(model)
    return model


def heads_of(model):
    groups = [group for group in analyze(model).groups if group.name != "out"]
    return [len(group.units) for group in groups]


# An offset would be left where a head of a fused projection has gone.
@pytest.mark.parametrize(
    ("norm", "fused"),
    [
        case
        for case in itertools.product(NORMS, (False, True))
        if case != ("layer", True)
    ],
)
def test_heads_go_and_the_function_stays(norm, fused):
    model = network(norm, fused)
    assert heads_of(model) == [HEADS]
    wrapped = pgmpf_tf.wrap(model, rate=0.5, seed=0)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert pgmpf_tf.profile(small).macs < 0.51 * pgmpf_tf.profile(model).macs
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


@pytest.mark.parametrize("norm", ["rms", "unit", "layer without offset"])
def test_without_heads_the_channels_of_a_map_go(norm):
    """Positions of a map are tied by the convolution that reads them, not channels."""
    x = keras.Input((8,))
    y = layers.Reshape((2, 3, 4))(layers.Dense(24, name="first")(x))
    y = layers.Conv2D(5, 1, name="conv")(NORMS[norm]()(y))
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(y)))
    randomize(model)
    roles = {member.role for member in analyze(model).members}
    assert ("scale" in roles) is (norm != "unit")
    wrapped = pgmpf_tf.wrap(model, rate=0.5, seed=0)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("first").units == 12
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


def test_a_number_for_each_head_goes_with_its_head():
    x = keras.Input((STEPS, 8))
    values = layers.EinsumDense("btc,chd->bthd", (None, HEADS, SIZE), name="v")(x)
    gates = layers.Dense(HEADS, activation="sigmoid", name="gates")(x)
    y = values * ops.expand_dims(gates, -1)
    y = ops.reshape(y, (-1, STEPS, HEADS * SIZE))
    model = keras.Model(x, layers.Dense(3)(y))
    randomize(model)
    assert heads_of(model) == [HEADS]
    wrapped = pgmpf_tf.wrap(model, rate=0.5, seed=0)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("gates").units == HEADS // 2
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
