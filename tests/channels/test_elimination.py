"""Dead channels, against a slow and obvious reference: flip one and look."""

import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.channels.arrays import kept_along
from pgmpf_tf.channels.elimination import eliminate
from pgmpf_tf.channels.folding import fold_gathers
from pgmpf_tf.channels.graph import trace
from pgmpf_tf.compaction import compact
from pgmpf_tf.rules import Weights
from tests.graphs import deviation, outputs_of, randomize, samples, zero_by_hand
from tests.random_models import random_model


def kept_filters(model) -> dict[str, np.ndarray]:
    """By the analysis: what each plain convolution or dense layer keeps."""
    steps = {
        id(step.node.operation): kept_along(step.produced[0], -1)
        for step in eliminate(fold_gathers(trace(model)), Weights())
    }
    kept = {}
    for layer in model.layers:
        plain = type(layer) in (layers.Conv2D, layers.Dense)
        if plain and len(layer._inbound_nodes) == 1:
            none = np.zeros(layer.kernel.shape[-1], bool)
            kept[layer.name] = steps.get(id(layer), none)
    return kept


def moves_outputs(model, name, filter_index, x, before) -> bool:
    """By trial: does any output change when this filter gets other weights?"""
    layer = model.get_layer(name)
    saved = layer.get_weights()
    changed = [w.copy() for w in saved]
    for weight in changed:
        weight[..., filter_index] += np.float32(0.7)
    layer.set_weights(changed)
    after = outputs_of(model, x)
    layer.set_weights(saved)
    return any((a != b).any() for a, b in zip(before, after, strict=True))


def what_comes_out(model, name, filter_index, x) -> np.ndarray:
    """By trial: what the filter puts out."""
    inner = keras.Model(model.input, model.get_layer(name).output)
    return outputs_of(inner, x)[0][..., filter_index]


@pytest.mark.parametrize("seed", range(0, 16))
def test_what_goes_is_zero_or_folded_or_moves_nothing(seed):
    model = random_model(seed)
    zero_by_hand(model, seed)
    x = samples(model)
    before = outputs_of(model, x)
    folded = False
    for name, kept in kept_filters(model).items():
        for index in np.flatnonzero(~kept):
            values = what_comes_out(model, name, index, x)
            if not values.any() or not moves_outputs(model, name, index, x, before):
                continue
            # Only a constant may go besides: the next bias takes it in.
            assert (values == values.flat[0]).all(), (name, index)
            folded = True
    if folded:
        # Sums over fewer channels are added up in another order.
        assert deviation(before, outputs_of(compact(model), x)) < 1e-5


def plain_network(seed):
    x = keras.Input((6, 6, 3))
    y = stem = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    for _ in range(2):
        z = layers.Conv2D(6, 3, padding="same")(y)
        z = layers.BatchNormalization()(z)
        y = layers.Add()([y, layers.Activation("tanh")(z)])
    y = layers.Concatenate()([y, stem * 2])
    y = layers.Dense(5, activation="tanh")(layers.GlobalAveragePooling2D()(y))
    model = keras.Model(x, layers.Dense(2)(y))
    randomize(model, seed)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if not layer.weights:
            continue
        weights = layer.get_weights()
        if weights[0].ndim > 1:
            weights[0][..., rng.random(weights[0].shape[-2]) < 0.4, :] = 0
        else:
            dead = rng.random(weights[0].shape[0]) < 0.4
            weights[0][dead], weights[1][dead] = 0, 0
        layer.set_weights(weights)
    return model


@pytest.mark.parametrize("seed", range(6))
def test_what_moves_nothing_goes(seed):
    """No barrier, no shared layer: here the analysis must find every dead filter."""
    model = plain_network(seed)
    x = samples(model, batch=8)
    before = outputs_of(model, x)
    found = 0
    for name, kept in kept_filters(model).items():
        for index, stays in enumerate(kept):
            moving = moves_outputs(model, name, index, x, before)
            assert stays <= moving or kept.sum() == 1, (name, index)
            found += not stays
    assert found


def test_a_term_that_is_left_out_counts_where_it_is_not_zero():
    image = keras.Input((4, 4, 3))
    gone = layers.Conv2D(4, 1, name="gone")(image)  # an output, so all of it stays
    constant = layers.Conv2D(4, 1, name="constant")(image)
    total = layers.Add()([gone, constant])
    mixed = layers.Conv2D(4, 1, use_bias=False)(total)
    scores = layers.Dense(3, name="scores")(layers.Subtract()([total, mixed]))
    model = keras.Model(image, [gone, scores])
    randomize(model, 0)
    for name, bias in (("gone", np.zeros(4)), ("constant", [0.0, 0.0, 0.3, 0.7])):
        layer = model.get_layer(name)
        layer.set_weights([np.zeros(layer.kernel.shape), np.asarray(bias)])
    x = samples(model)
    small = compact(model)
    assert small.count_params() < model.count_params()
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 1e-5


def test_a_term_that_is_zero_leaves_a_sum_of_several():
    image = keras.Input((4, 4, 3))
    one, two = (layers.Conv2D(4, 1, name=name)(image) for name in ("one", "two"))
    total = layers.Add()([one, two, one])
    model = keras.Model(image, layers.Conv2D(2, 1)(total))
    randomize(model, 0)
    layer = model.get_layer("two")
    layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    x = samples(model)
    small = compact(model)
    assert "two" not in [layer.name for layer in small.layers]
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 1e-5
