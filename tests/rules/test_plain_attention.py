"""Attention without projections loses the channels of its scores, and its width."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import deviation, outputs_of, randomize, samples

KINDS = {
    "attention": layers.Attention,
    "scaled": lambda: layers.Attention(use_scale=True),
    "concat": lambda: layers.Attention(use_scale=True, score_mode="concat"),
    "additive": layers.AdditiveAttention,
    "additive without scale": lambda: layers.AdditiveAttention(use_scale=False),
}


def network(layer, separate, **call):
    """Two streams; keys of their own, or the values."""
    x, other = keras.Input((7, 5)), keras.Input((6, 4))
    query, value = layers.Dense(12, name="query"), layers.Dense(12, name="value")
    inputs = [query(x), value(other)]
    if separate:
        inputs.append(layers.Dense(12, name="key")(other))
    model = keras.Model([x, other], layers.Dense(3)(layer(inputs, **call)))
    randomize(model)
    return model


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_channels_go_and_the_function_stays(kind, separate):
    wrapped = pgmpf_tf.wrap(network(KINDS[kind](), separate), rate=0.5, seed=0)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    for name in ("query", "value", *["key"] * separate):
        assert small.get_layer(name).units == 6
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_of_one_side_alone(kind):
    """A sum of query and key still needs what only one of them has."""
    model = network(KINDS[kind](), separate=True)
    kernel, bias = model.get_layer("key").get_weights()
    kernel[:, ::3], bias[::3] = 0, 0
    model.get_layer("key").set_weights([kernel, bias])
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
    multiplied = kind in ("attention", "scaled")
    assert small.get_layer("query").units == (8 if multiplied else 12)
    assert small.get_layer("value").units == 12


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_are_told_by_position(kind):
    """As they are behind a reshape that has mixed positions and channels."""
    x, positions = keras.Input((7, 5)), np.zeros((7, 12), "float32")
    positions[3:, :4] = 0.5
    y = layers.Dense(12, name="query")(x) + positions
    y = layers.Reshape((7, 12))(layers.Flatten()(y))
    y = KINDS[kind]()([y, layers.Dense(12, name="value")(x)])
    model = keras.Model(x, layers.Dense(3)(y))
    randomize(model)
    for name, zeros in (("query", slice(6)), ("value", slice(2, 8))):
        weights = model.get_layer(name).get_weights()
        for values in weights:
            values[..., zeros] = 0
        model.get_layer(name).set_weights(weights)
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
    assert small.count_params() < model.count_params()


def test_an_entry_of_the_scale_that_is_zero_frees_its_channel():
    model = network(layers.AdditiveAttention(name="attend"), separate=True)
    scale = np.array(model.get_layer("attend").scale)
    scale[:4] = 0
    model.get_layer("attend").set_weights([scale])
    small = pgmpf_tf.compact(model)
    assert small.get_layer("query").units == small.get_layer("key").units == 8
    assert small.get_layer("attend").scale.shape == (8,)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6


def test_a_class_with_scores_of_its_own_stays_whole():
    class Cosine(layers.Attention):
        def _calculate_scores(self, query, key):
            return super()._calculate_scores(ops.softmax(query), key)

    pins = analyze(network(Cosine(), separate=True)).pins
    assert {pin.layer for pin in pins} >= {"query", "key", "value"}
    assert "in its own way" in pins[0].reason


def test_scores_and_weighted_sum_are_counted():
    model = network(layers.Attention(), separate=True)
    (row,) = (r for r in pgmpf_tf.profile(model).layers if r.type == "Attention")
    assert row.macs == 7 * 6 * (12 + 12)


def test_zeros_like_look_at_no_channel():
    x = keras.Input((6, 5))
    y = layers.Dense(8, name="first")(x)
    y = ops.concatenate([ops.zeros_like(y[:, :1]), y[:, 1:]], axis=1)
    model = keras.Model(x, layers.Dense(3)(ops.maximum(y, ops.zeros_like(y))))
    randomize(model)
    wrapped = pgmpf_tf.wrap(model, rate=0.5, seed=0)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("first").units == 4
    x = samples(model)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


def test_what_is_infinite_at_zero_pins():
    x = keras.Input((6, 5))
    y = ops.reciprocal(layers.Dense(8, name="first")(x))
    model = keras.Model(x, layers.Dense(3)(y))
    (pin,) = (p for p in analyze(model).pins if p.layer == "first")
    assert "would put" in pin.reason
