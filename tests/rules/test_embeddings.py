"""The width of embeddings goes as any other, and the function stays."""

import keras
import numpy as np
import pytest
from keras import layers

import pgmpf_tf
from tests.graphs import TOKENS, deviation, outputs_of, randomize, samples

STEPS, WIDTH = 6, 8


def plain(tokens):
    x = layers.Embedding(TOKENS, WIDTH, name="table")(tokens)
    return layers.Dense(4)(layers.LayerNormalization()(x))


def masked(tokens):
    x = layers.Embedding(TOKENS, WIDTH, mask_zero=True, name="table")(tokens)
    return layers.GRU(4)(x)


def reversible(tie):
    def text(tokens):
        table = layers.ReversibleEmbedding(
            TOKENS, WIDTH, tie_weights=tie, logit_soft_cap=3.0, name="table"
        )
        x = table(tokens)
        x = x + layers.Dense(WIDTH)(layers.Dense(6, activation="relu")(x))
        return table(layers.RMSNormalization()(x), reverse=True)

    return text


CASES = {
    "plain": plain,
    "masked": masked,
    "tied": reversible(True),
    "untied": reversible(False),
}


def model_of(text):
    tokens = keras.Input((STEPS,), dtype="int32")
    model = keras.Model(tokens, text(tokens))
    randomize(model)
    return model


@pytest.mark.parametrize("name", CASES)
def test_loses_width(name):
    if "tied" in name and not hasattr(layers, "ReversibleEmbedding"):
        pytest.skip("Keras 3.13 brought ReversibleEmbedding")
    model = model_of(CASES[name])
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    assert small.get_layer("table").output_dim == WIDTH // 2
    before, after = pgmpf_tf.profile(model), pgmpf_tf.profile(small)
    assert after.macs < 0.7 * before.macs
    assert not before.uncounted
    if name == "tied":  # the scores of all tokens are counted
        assert before.macs == STEPS * WIDTH * (TOKENS + 2 * 6)


def test_columns_that_are_zero_by_hand_go():
    model = model_of(CASES["plain"])
    table = model.get_layer("table")
    value = np.array(table.embeddings)
    value[:, 2:5] = 0
    table.embeddings.assign(value)
    norm = next(x for x in model.layers if isinstance(x, layers.LayerNormalization))
    for variable in norm.weights:
        value = np.array(variable)
        value[2:5] = 0
        variable.assign(value)
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert small.get_layer("table").output_dim == WIDTH - 3
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
