"""Biases make up for pruned filters: exactly for constants, and in the mean for all."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from tests.graphs import deviation, outputs_of, randomize


def data(shape=(6, 5), count=40):
    return np.random.default_rng(0).normal(1, 1, (count, *shape)).astype("float32")


def silence(layer, lost):
    """Filters that put out their bias, whatever comes in, and are the smallest."""
    kernel, bias = layer.get_weights()
    kernel[..., lost], bias[lost] = 0, 0.01
    layer.set_weights([kernel, bias])


READERS = {
    "dense": lambda x: layers.Dense(3)(x),
    "convolution": lambda x: layers.Conv1D(3, 2)(x),
    "einsum": lambda x: layers.EinsumDense("abc,cde->abde", (6, 2, 3), bias_axes="de")(
        x
    ),
    "einsum with a bias on one axis": lambda x: layers.EinsumDense(
        "abc,cde->abde", (6, 2, 3), bias_axes="e"
    )(x),
    "attention": lambda x: layers.MultiHeadAttention(2, 3)(x, x),
}


@pytest.mark.parametrize("reader", READERS)
def test_constants_are_lost_without_a_difference(reader):
    x = keras.Input((6, 5))
    y = layers.Dense(8, activation="gelu", name="first")(x)
    model = keras.Model(x, READERS[reader](y))
    randomize(model)
    silence(model.get_layer("first"), [1, 2, 5, 6])
    expected = outputs_of(model, data())
    wrapped = pgmpf_tf.wrap(model, rate={"first": 0.5, "*": 0.0})
    changed = pgmpf_tf.compensate(wrapped, data())
    if reader == "einsum with a bias on one axis":  # what it lacks differs along d
        assert changed == 0
        return
    assert changed == (3 if reader == "attention" else 1)
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("first").units == 4
    assert deviation(expected, outputs_of(small, data())) < 2e-6


class Offset(layers.Layer):
    """The same number for all channels: where they are pruned, it is there as well."""

    def build(self, shape):
        self.offset = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return x + self.offset


@pytest.mark.parametrize("reader", ["dense", "einsum"])
def test_constants_that_are_no_longer_read_are_lost_without_a_difference(reader):
    x = keras.Input((6, 5))
    y = layers.Dense(8, activation="gelu", name="first")(x)
    y = READERS[reader](Offset()(y))
    y = layers.Dense(4)(layers.Activation("sigmoid")(y)) if reader == "dense" else y
    model = keras.Model(x, y)
    randomize(model)
    silence(model.get_layer("first"), [1, 2, 5, 6])
    expected = outputs_of(model, data())
    wrapped = pgmpf_tf.wrap(model, rate={"first": 0.5, "*": 0.0})
    assert pgmpf_tf.compensate(wrapped, data()) == 1
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("first").units == 4
    assert deviation(expected, outputs_of(small, data())) < 2e-6


def test_the_biases_of_pruned_filters_stay_zero():
    x = keras.Input((6, 5))
    y = layers.Dense(8, activation="relu", name="first")(x)
    y = layers.Dense(6, activation="relu", name="second")(y)
    model = keras.Model(x, layers.Dense(3)(y))
    randomize(model)
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    assert pgmpf_tf.compensate(wrapped, data()) == 2
    gone = wrapped.masks()["second"] == 0
    assert gone.sum() == 3
    assert not model.get_layer("second").bias.numpy()[gone].any()


def test_the_mean_of_the_outputs_stays():
    x = keras.Input((4, 4, 3))
    y = layers.Conv2D(8, 1, activation="relu", name="first")(x)
    model = keras.Model(x, layers.Conv2D(2, 3)(y))
    randomize(model)
    images = data((4, 4, 3))
    (dense,) = outputs_of(model, images)
    weights = model.get_weights()
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    (masked,) = outputs_of(wrapped, images)
    model.set_weights(weights)
    # In two batches, of which the second is smaller.
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    assert pgmpf_tf.compensate(wrapped, images) == 1
    (mended,) = outputs_of(wrapped, images)
    # Each tap of the kernel sees other positions: their means are nearly one.
    apart = [abs((y - dense).mean((0, 1, 2))).max() for y in (masked, mended)]
    assert apart[1] < 0.2 * apart[0]
    assert np.square(mended - dense).mean() < np.square(masked - dense).mean()


def test_what_is_zero_already_gives_nothing_back():
    x = keras.Input((6, 5))
    model = keras.Model(x, layers.Dense(3)(layers.Dense(8)(x)))
    randomize(model)
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    before = wrapped.get_weights()
    assert pgmpf_tf.compensate(wrapped, data()) == 0
    for old, new in zip(before, wrapped.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_bad_data_change_nothing():
    x = keras.Input((6, 5))
    model = keras.Model(x, layers.Dense(3)(layers.Dense(8)(ops.log(x))))
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    before = wrapped.get_weights()
    with pytest.raises(ValueError, match="NaN or infinite"):
        pgmpf_tf.compensate(wrapped, np.zeros((4, 6, 5), "float32"))
    for old, new in zip(before, wrapped.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert "call" not in vars(wrapped.layers[-1])
