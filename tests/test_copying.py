"""Layers of one's own in a compacted model: its file can be loaded."""

import keras
import pytest
from keras import layers

import pgmpf_tf
from tests.graphs import deviation, outputs_of, randomize, samples


@keras.saving.register_keras_serializable("tests")
class WantsTuples(layers.Layer):
    """Files name its shape as a list."""

    def build(self, shape):
        if not isinstance(shape, tuple):
            raise TypeError("a tuple is wanted")
        self.scale = self.add_weight(shape=shape[-1:], name="scale")

    def call(self, x):
        return x * self.scale


@keras.saving.register_keras_serializable("tests")
class TakesLists(WantsTuples):
    """So that its file can say what it is built for."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(list(shape)[-1],), name="scale")


@keras.saving.register_keras_serializable("tests")
class BuiltByItsCall(layers.Layer):
    """It has no `build`, and is not called where only its output's shape is asked."""

    def __init__(self, **options):
        super().__init__(**options)
        self.norm = layers.LayerNormalization()

    def call(self, x):
        return self.norm(x)

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.filterwarnings("ignore:.*does not have a `build:UserWarning")
@pytest.mark.parametrize("kind", [WantsTuples, TakesLists, BuiltByItsCall])
def test_the_file_of_a_layer_that_stays_whole_loads(kind, tmp_path):
    x = keras.Input((5,))
    y = layers.Dense(8, activation="relu", name="hidden")(kind(name="own")(x))
    model = keras.Model(x, layers.Dense(3)(y))
    randomize(model)
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert type(small.get_layer("own")) is kind
    assert small.get_layer("hidden").units == 4
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    data = samples(model)
    assert deviation(outputs_of(wrapped, data), outputs_of(loaded, data)) < 2e-6
    wants_shapes = small.get_layer("own").get_build_config() is not None
    assert wants_shapes is (kind is TakesLists)
