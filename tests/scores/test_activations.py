"""Criteria of what filters put out: against the outputs of the model's own layers."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import layers

import pgmpf_tf
from pgmpf_tf import criteria
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import randomize

outputs = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 7)),
    elements=st.floats(-10, 10),
)


@given(outputs)
def test_formulas(values):
    moments = np.stack([values.mean(axis=1), (values**2).mean(axis=1)], axis=1)
    rms = [(sum(v * v for v in row) / len(row)) ** 0.5 for row in values]
    np.testing.assert_allclose(criteria.activation(moments), rms, rtol=1e-9, atol=1e-9)
    varies = values.var(axis=1)
    np.testing.assert_allclose(criteria.variance(moments), varies, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def model():
    x = keras.Input((8, 3))
    y = layers.Conv1D(6, 3, padding="same", activation="tanh", name="conv")(x)
    y = layers.Dense(8, name="plain")(y)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.DepthwiseConv1D(3, depth_multiplier=2, name="depth")(y)
    y = layers.Dense(8, name="stream")(
        layers.LSTM(5, name="lstm", return_sequences=1)(y)
    )
    y = layers.MultiHeadAttention(4, 3, name="attention")(y, y)
    model = keras.Model(x, layers.Dense(2, name="out")(y))
    randomize(model)
    return model


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(70, 8, 3)).astype("float32")


def expected(model, data, name, statistic):
    part = keras.Model(model.inputs, model.get_layer(name).output)
    values = part.predict(data, verbose=0).astype("float64")
    return statistic(values.reshape(-1, values.shape[-1]))


@pytest.mark.parametrize(
    ("criterion", "statistic"),
    [
        (criteria.Activation, lambda v: np.sqrt((v**2).mean(axis=0))),
        (criteria.Variance, lambda v: v.var(axis=0)),
    ],
)
def test_scores_are_statistics_of_outputs(model, data, criterion, statistic):
    groups = {g.name: g for g in analyze(model).groups}
    found = criterion(data).scores([*groups.values()], [model])
    scores = dict(zip(groups, found, strict=True))
    for group, layer in [("conv", "conv"), ("stream", "stream")]:
        found = expected(model, data, layer, statistic)
        np.testing.assert_allclose(scores[group], found, rtol=1e-4)
    # Behind the normalization, where there is one; all four gates are one unit.
    found = expected(model, data, "norm", statistic)
    np.testing.assert_allclose(scores["plain"], found, rtol=1e-4)
    found = 8 * expected(model, data, "lstm", statistic)  # kernel and recurrent kernel
    np.testing.assert_allclose(scores["lstm"], found, rtol=1e-4)
    assert scores["attention/query"].shape == (4,)
    assert (scores["attention/query"] > 0).all()


def test_the_model_is_left_as_it_was(model, data):
    before = {layer.name: dict(layer.__dict__) for layer in model._flatten_layers()}
    criteria.Activation(data[:4]).scores(analyze(model).groups, [model])
    for layer in model._flatten_layers():
        assert layer.__dict__.keys() == before[layer.name].keys()
        assert "call" not in layer.__dict__


def test_a_filter_that_puts_out_nothing_goes_first(data):
    x = keras.Input((8, 3))
    y = layers.Dense(4, activation="relu", name="hidden")(x)
    model = keras.Model(x, layers.Dense(2)(y))
    kernel, bias = model.get_layer("hidden").get_weights()
    bias[2], kernel[:, 2] = -1000, 10  # large weights, and never active
    model.get_layer("hidden").set_weights([kernel, bias])
    wrapped = pgmpf_tf.wrap(model, rate=0.25, criterion=criteria.Activation(data))
    wrapped.apply_masks()
    assert wrapped.masks()["hidden"].tolist() == [1, 1, 0, 1]


def test_data_must_fit(model):
    wrong = criteria.Activation(np.zeros((4, 8, 5), "float32"))
    with pytest.raises(ValueError, match="`data` must fit the model's inputs"):
        pgmpf_tf.wrap(model, rate=0.5, criterion=wrong)
    with pytest.raises(ValueError, match="needs `data`"):
        pgmpf_tf.wrap(model, rate=0.5, criterion="activation")
