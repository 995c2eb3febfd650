"""What a `call` may do and still be opened: with layers, weights, shapes, constants."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.graph import trace
from tests.composites import Mish
from tests.graphs import deviation, outputs_of, randomize, samples

STEPS, WIDTH = 6, 8


class Own(layers.Layer):
    """A layer of one's own with a table and a dense layer, and a `call` that varies."""

    def __init__(self, then):
        super().__init__(name="own")
        self.then, self.dense, self.inside = (
            then,
            layers.Dense(WIDTH, name="inner"),
            Inside(),
        )

    def build(self, shape):
        self.dense.build(shape)
        self.inside.build(shape)
        self.table = self.add_weight(shape=(1, STEPS, WIDTH), name="table")

    def call(self, x):
        return self.then(self, self.dense(x))


class Inside(layers.Layer):
    """A layer whose weights are used by a method that is not its `call`."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(WIDTH,), name="scale")

    def scaled(self, x):
        return x * ops.convert_to_tensor(self.scale)

    def call(self, x):
        return self.scaled(x)


def attention_in_capitals(own, x):
    scores = ops.einsum("BTC,BSC->BTS", x, x)
    return ops.einsum("BTS,BSC->BTC", ops.softmax(scores), x)


def slice_at_computed_place(own, x):
    first = ops.cast(ops.floor_divide(3, 2), "int32")
    return x[:, :4] + ops.slice(own.table, (0, first, 0), (1, 4, WIDTH))


def broadcast_to_its_own_shape(own, x):
    return ops.broadcast_to(x, (ops.shape(x)[0], STEPS, WIDTH)) + own.table


def mask_as_a_constant(own, x):
    here = layers.Masking().compute_mask(ops.ones((1, STEPS, 1)))
    return ops.where(ops.expand_dims(here, -1), x, 0.0)


THEN = {
    "makes a stock layer": lambda own, x: layers.Activation("silu")(x),
    "makes a layer of one's own": lambda own, x: Mish()(x),
    "uses the weights of a layer in it": lambda own, x: own.inside.scaled(x),
    "uses and calls a layer in it": lambda own, x: own.inside(own.inside.scaled(x)),
    "capitals in einsum": attention_in_capitals,
    "slices at a computed place": slice_at_computed_place,
    "broadcasts to the shape": broadcast_to_its_own_shape,
    "a mask that is a constant": mask_as_a_constant,
}


def through(then):
    x = keras.Input((STEPS, 3))
    y = layers.Dense(WIDTH, name="first")(x)
    model = keras.Model(x, layers.Dense(2, name="last")(Own(then)(y)))
    randomize(model)
    return model


@pytest.mark.parametrize("case", THEN)
def test_it_is_opened_and_pruned(case):
    model = through(THEN[case])
    assert not [node.reason for node in trace(model).nodes if node.reason]
    wrapped = pgmpf_tf.wrap(model, rate=0.5, seed=0)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("inner").units == WIDTH // 2
    for batch in (2, 5):
        x = samples(model, batch)
        assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


def test_a_made_layer_that_differs_closes_its_maker():
    """Its next copy has another `id`: nobody could say which to leave closed."""

    class Noise(layers.Layer):
        def call(self, x):
            return x * np.random.default_rng().random(WIDTH).astype("float32")

    (node,) = (n for n in trace(through(lambda own, x: Noise()(x))).nodes if n.reason)
    assert node.path == "own"
    assert "depends on the batch" in node.reason


def test_a_made_layer_that_draws_at_random_closes_its_maker():
    class Draws(layers.Layer):
        def call(self, x):
            return x + keras.random.normal((WIDTH,))

    model = through(lambda own, x: Draws()(x))
    assert [node.path for node in trace(model).nodes if node.reason] == ["own"]


def test_half_precision_of_a_layer_in_it_is_its_own():
    class Outer(Own):
        def __init__(self, then):
            super().__init__(then)
            self.inside = Inside(dtype="mixed_bfloat16")

    x = keras.Input((STEPS, WIDTH))
    y = Outer(lambda own, x: ops.cast(own.inside(x), "float32"))(x)
    (dtype,) = (
        node.outputs[0].dtype
        for node in trace(keras.Model(x, y)).nodes
        if node.path.endswith("scale")
    )
    assert dtype == "bfloat16"
