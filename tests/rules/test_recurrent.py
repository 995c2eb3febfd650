"""Recurrent layers lose units and input width, and compute the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import deviation, outputs_of, randomize, samples

UNITS = 6


def plain(kind, **options):
    return lambda x: kind(UNITS, return_sequences=True, **options)(x)


def last(kind, **options):
    return lambda x: layers.RepeatVector(5)(kind(UNITS, **options)(x))


def both_ways(inner, **options):
    return lambda x: layers.Bidirectional(
        inner(UNITS, return_sequences=True), **options
    )(x)


def apart(x):
    inner = layers.GRU(UNITS, return_sequences=True)
    one, other = layers.Bidirectional(inner, merge_mode=None)(x)
    return one * other


def handed_on(x):
    """An encoder's state starts a decoder."""
    _, *states = layers.LSTM(UNITS, return_state=True)(x)
    return layers.LSTM(UNITS, return_sequences=True)(x, initial_state=states)


def both_states(x):
    inner = layers.LSTM(UNITS, return_state=True)
    _, h, _, _, c = layers.Bidirectional(inner)(x)
    return layers.RepeatVector(5)(ops.concatenate([h, c], axis=-1))


def twice(x):
    shared = layers.GRU(8, return_sequences=True)
    return shared(shared(x))


def masked(x):
    x = layers.Masking()(ops.relu(x) * ops.cast(x[..., :1] > 0, "float32"))
    return layers.GRU(UNITS, return_sequences=True)(x)


CASES = {
    "lstm": plain(layers.LSTM),
    "lstm_no_bias": plain(layers.LSTM, use_bias=False, go_backwards=True),
    "gru": plain(layers.GRU),
    "gru_reset_before": plain(layers.GRU, reset_after=False),
    "rnn": plain(layers.SimpleRNN, activation="relu"),
    "lstm_last": last(layers.LSTM),
    "gru_unrolled": last(layers.GRU, unroll=True),
    "rnn_last": last(layers.SimpleRNN),
    "both": both_ways(layers.LSTM),
    "both_summed": both_ways(layers.GRU, merge_mode="sum"),
    "both_multiplied": both_ways(layers.SimpleRNN, merge_mode="mul"),
    "apart": apart,
    "handed_on": handed_on,
    "both_states": both_states,
    "twice": twice,
    "masked": masked,
}


def model_of(operation):
    inputs = keras.Input((5, 3))
    y = operation(layers.Dense(8, name="first")(inputs))
    y = layers.Dense(3, name="reader")(layers.Dense(4, activation="relu")(y))
    model = keras.Model(inputs, y)
    randomize(model)
    return model


def cells_of(model):
    kinds = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)
    return [x for x in model._flatten_layers() if isinstance(x, kinds)]


@pytest.mark.parametrize("name", CASES)
def test_loses_units_and_width(name):
    model = model_of(CASES[name])
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    if name != "masked":  # there, a channel is read for the mask
        assert small.get_layer("first").units == 4
    for old, new in zip(cells_of(model), cells_of(small), strict=True):
        assert new.units == old.units // 2
    assert not pgmpf_tf.profile(small).uncounted


@pytest.mark.parametrize(
    "name", ["lstm", "gru", "gru_reset_before", "rnn", "both", "both_summed", "twice"]
)
def test_zeros_by_hand_are_exact(name):
    """Some units without candidates, others that nobody reads, and loose zeros."""
    model = model_of(CASES[name])
    rng = np.random.default_rng(len(name))
    for cell in cells_of(model):
        block = 0 if isinstance(cell, layers.SimpleRNNCell) else 2
        for variable in cell.weights:
            value = np.array(variable)
            value[..., block * cell.units + 1] = 0
            if variable is cell.recurrent_kernel:
                value[2] = 0  # not read by the layer itself
            variable.assign(value)
    for variable in model.trainable_variables:
        value = np.array(variable)
        value[rng.random(len(value)) < 0.2] = 0
        variable.assign(value)
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
    assert small.count_params() < model.count_params()


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_a_unit_goes_if_it_is_zero_or_reaches_nothing(kind):
    inputs = keras.Input((5, 3))
    layer = kind(UNITS, name="recurrent")
    model = keras.Model(inputs, layers.Dense(2, name="reader")(layer(inputs)))
    randomize(model)
    block = 0 if kind is layers.SimpleRNN else 2
    for variable in layer.weights:
        value = np.array(variable)
        value[..., block * UNITS + 1] = 0  # unit 1 is zero
        if variable is layer.cell.recurrent_kernel:
            value[2:4] = 0
            value[2, 3::UNITS] = 1  # unit 2 reaches unit 3 alone
        variable.assign(value)
    reader = model.get_layer("reader")
    kernel = np.array(reader.kernel)
    kernel[2:4] = 0  # and nobody reads units 2 and 3
    reader.kernel.assign(kernel)
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
    assert small.get_layer("recurrent").units == UNITS - 3


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.LSTM(UNITS, activation="sigmoid"), "does not keep zero"),
        (layers.GRU(UNITS, activation="softmax"), "does not keep zero"),
    ],
)
def test_units_that_would_not_be_zero_stay(layer, reason):
    model = model_of(lambda x: layers.RepeatVector(5)(layer(x)))
    pins = {pin.layer: pin for pin in analyze(model).pins}
    assert reason in pins[layer.name].reason
    assert pins[layer.name].filters == UNITS  # a unit is one filter, of several slices


def test_macs_of_each_step_are_all_weights():
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, layers.Bidirectional(layers.LSTM(UNITS))(inputs))
    assert pgmpf_tf.profile(model).macs == 2 * 5 * 4 * UNITS * (3 + UNITS)
