"""`compact` on models and layers of one's own, and on what they keep: names, types."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import (
    TOLERANCE,
    assert_same,
    deviation,
    masked,
    outputs_of,
    randomize,
    residual_network,
    samples,
    zero_filters,
)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Conv2D(8, 3, name="first")
        self.norm = layers.BatchNormalization()
        self.second = layers.Conv2D(4, 1, name="second")

    def call(self, x):
        return self.second(ops.relu(self.norm(self.first(x))))


class Untraceable(Subclassed):
    def call(self, x):
        import tensorflow as tf

        return tf.nn.relu(super().call(tf.nn.relu(x)))


def test_subclassed_model():
    model = Subclassed()
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    model(x)
    randomize(model)
    wrapped = masked(model)
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("first").filters == 4
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < TOLERANCE
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < TOLERANCE


def test_untraceable_model_is_one_barrier():
    pytest.importorskip("tensorflow")
    model = Untraceable()
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    model(x)
    small = pgmpf_tf.compact(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) == 0
    (pin,) = analyze(model).pins
    assert "cannot be traced" in pin.reason


class Doubled(keras.Model):
    """Made of inputs and outputs, with more in its call."""

    def call(self, x, training=None):
        return 2 * ops.relu(super().call(x, training=training))


def test_functional_model_with_a_call_of_its_own():
    plain = residual_network()
    model = Doubled(plain.input, plain.output)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(plain, x)) > 0.1
    wrapped = masked(model)
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("conv0a").filters == 4
    assert small.count_params() < model.count_params()
    assert [one.name for one in small.inputs] == ["image"]
    assert small.output_names == model.output_names
    assert_same(wrapped, small)
    assert_same(model, pgmpf_tf.compact(model))


@pytest.mark.parametrize("lost", [[], [0, 2]])
def test_outputs_keep_their_names(lost):
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(8, 1, name="conv")(x)
    inner_input = keras.Input((6, 6, 8))
    inner = keras.Model(inner_input, layers.Conv2D(8, 1, name="last")(inner_input))
    features = layers.ReLU(name="features")(y)
    model = keras.Model(x, {"one": inner(features), "two": features})
    randomize(model)
    zero_filters(model, "conv", lost)
    small = pgmpf_tf.compact(model)
    assert small.output_names == model.output_names
    assert small.get_layer("last").filters == 8
    assert_same(model, small)


def test_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = residual_network()
    finally:
        keras.config.set_dtype_policy(before)
    wrapped = masked(model)
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("conv0a").dtype_policy.name == "mixed_float16"
    assert small.get_layer("conv0a").filters == 4
    x = samples(model)
    # float16 has 11 bits; sums over fewer channels round differently.
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 5e-3


def test_preprocessing_layers_keep_their_state():
    x = keras.Input((8, 8, 3))
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(0).normal(3, 2, (16, 8, 8, 3)))
    y = layers.Rescaling([1.0, 2.0, 3.0])(norm(layers.RandomFlip()(x)))
    y = layers.Conv2D(8, 3, name="conv")(y)
    model = keras.Model(x, layers.Dense(2)(layers.GlobalMaxPooling2D()(y)))
    wrapped = masked(model)
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("conv").filters == 4
    assert_same(wrapped, small)


def test_frozen_layers_stay_frozen_and_whole():
    model = residual_network()
    model.get_layer("conv0a").trainable = False
    wrapped = masked(model)
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("conv0a").trainable is False
    assert small.get_layer("conv0a").filters == 8
    assert small.get_layer("conv1a").filters == 4
    assert_same(wrapped, small)


def test_layer_that_cannot_be_copied_is_shared():
    class Stateful(layers.Layer):
        def __init__(self, table):
            super().__init__()
            self.table = self.add_weight(shape=(8, 8), initializer="ones")
            self.extra = table

        def call(self, x):
            return x @ self.table.value + self.extra  # not to be opened

        def get_config(self):
            raise NotImplementedError

    x = keras.Input((6, 6, 3))
    odd = Stateful(np.float32(3))
    model = keras.Model(x, layers.Dense(2)(odd(layers.Conv2D(8, 1)(x))))
    small = pgmpf_tf.compact(model)
    assert odd in small.layers
    assert_same(model, small)


def test_a_layer_whose_configuration_makes_other_weights_is_shared():
    @keras.saving.register_keras_serializable("tests")
    class Grown(layers.Layer):
        """As detectors have them: `build` looks at what was set from outside."""

        extra = True

        def build(self, shape):
            self.table = self.add_weight(shape=(8, 8), initializer="ones")
            if self.extra:
                self.more = self.add_weight(shape=(8,), initializer="ones")

        def call(self, x):
            return x @ self.table.value  # not to be opened

        @classmethod
        def from_config(cls, config):
            new = cls(**config)
            new.extra = False
            return new

    x = keras.Input((6, 6, 3))
    odd = Grown(name="odd")
    model = keras.Model(x, layers.Dense(2)(odd(layers.Conv2D(8, 1)(x))))
    small = pgmpf_tf.compact(model)
    assert len(small.get_layer("odd").weights) == 2
    assert small.get_layer("odd").table is odd.table
    assert_same(model, small)


def test_outputs_of_one_name_keep_it():
    x = keras.Input((4,))
    inner = keras.Model(x, [layers.Dense(3)(x), layers.Dense(2)(x)], name="inner")
    model = keras.Model(x, inner(x))
    randomize(model)
    assert model.output_names == ["inner", "inner"]
    small = pgmpf_tf.compact(model)
    assert small.output_names == ["inner", "inner"]
    assert_same(model, small)


def test_empty_tensors():
    x = keras.Input((4, 3))
    y = layers.Dense(6, name="first")(x)
    y = layers.Concatenate(axis=1)([y[:, :0], y])
    model = keras.Model(x, layers.Dense(2)(y))
    randomize(model)
    small = pgmpf_tf.compact(masked(model))
    assert small.get_layer("first").units == 3
    assert_same(model, small)


def quick_gelu(x):
    return x * ops.sigmoid(1.702 * x)


def test_functions_of_ones_own_become_operations(tmp_path):
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(8, 1, activation=quick_gelu, name="first")(x)
    y = layers.DepthwiseConv2D(3, activation=quick_gelu)(y)
    y = layers.EinsumDense("abcd,de->abce", (4, 4, 8), activation=quick_gelu)(y)
    y = layers.Activation(quick_gelu)(y)
    model = keras.Model(x, layers.Dense(2)(y))
    randomize(model)
    wrapped = masked(model)
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("first").filters == 4
    assert_same(wrapped, small)
    small.save(tmp_path / "small.keras")  # a file cannot hold the function
    assert_same(small, keras.saving.load_model(tmp_path / "small.keras"))
