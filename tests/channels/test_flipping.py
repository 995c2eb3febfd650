"""Labels against numbers: one unit is zeroed, and gradients say what matters then.

A weight counts if the output moves with it. That knows nothing of labels or rules: what
no longer counts once a unit is zero, together with the unit itself, is what compaction
has to cut, entry for entry.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import deviation, outputs_of, randomize, samples

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="gradients of its tape"
)
STEPS, WIDTH = 5, 6


def block(attend):
    """A residual stream with attention and a perceptron, both normalized before."""

    def build(x):
        x = layers.Dense(WIDTH, name="embed")(x)
        x = x + attend(layers.LayerNormalization()(x))
        y = layers.Dense(5, activation="gelu")(layers.LayerNormalization()(x))
        return x + layers.Dense(WIDTH)(y)

    return build


def heads_by_layer(x):
    return layers.MultiHeadAttention(3, 2)(x, x)


def grouped_heads(x):
    return layers.GroupQueryAttention(2, 4, 2)(x, x)


def written_heads(x):
    q, k, v = (ops.reshape(layers.Dense(WIDTH)(x), (-1, STEPS, 3, 2)) for _ in range(3))
    weights = ops.softmax(ops.einsum("btnh,bsnh->bnts", q, k) / 2**0.5)
    y = ops.einsum("bnts,bsnh->btnh", weights, v)
    return layers.Dense(WIDTH)(ops.reshape(y, (-1, STEPS, WIDTH)))


def fused_heads(x):
    q, k, v = ops.unstack(
        ops.reshape(layers.Dense(3 * WIDTH)(x), (-1, STEPS, 3, 3, 2)), axis=2
    )
    y = ops.dot_product_attention(q, k, v)
    return layers.Dense(WIDTH)(ops.reshape(y, (-1, STEPS, WIDTH)))


def additive(x):
    y = layers.AdditiveAttention()([layers.Dense(4)(x), layers.Dense(4)(x)])
    return layers.Dense(WIDTH)(y)


def gated_convolution(x):
    y, gate = ops.split(layers.Dense(8)(x), 2, axis=-1)
    y = layers.DepthwiseConv1D(3, padding="same")(y * ops.sigmoid(gate))
    return layers.Dense(WIDTH)(layers.RMSNormalization()(y))


CASES = [
    heads_by_layer,
    grouped_heads,
    written_heads,
    fused_heads,
    additive,
    gated_convolution,
]


def network(attend):
    x = keras.Input((STEPS, 3))
    y = layers.Dense(2)(layers.GlobalAveragePooling1D()(block(attend)(x)))
    model = keras.Model(x, y)
    randomize(model)
    return model


def counting(model):
    """For each weight, which of its entries the output moves with, on some inputs."""
    found = [np.zeros(weight.shape, bool) for weight in model.trainable_weights]
    for seed in range(3):
        with tf.GradientTape() as tape:
            y = model(samples(model, 4, seed), training=False)
            direction = np.random.default_rng(seed).normal(size=y.shape)
            total = tf.reduce_sum(y * direction.astype("float32"))
        variables = [weight.value for weight in model.trainable_weights]
        for place, gradient in enumerate(tape.gradient(total, variables)):
            if gradient is not None:
                found[place] |= np.asarray(gradient) != 0
    return found


def zeroed(model, group, unit):
    """Zeroes the slices of a unit; says which entries of which weight these are."""
    entries = [np.zeros(weight.shape, bool) for weight in model.trainable_weights]
    places = {id(weight): i for i, weight in enumerate(model.trainable_weights)}
    for member in group.members:
        chosen = member.units == unit
        member.scale(np.where(chosen, 0.0, 1.0))
        hit = np.moveaxis(entries[places[id(member.variable)]], member.axis, 0)
        hit[chosen] = True
    return entries


@pytest.mark.parametrize("attend", CASES, ids=lambda attend: attend.__name__)
def test_what_counts_no_more_is_what_goes(attend):
    model = network(attend)
    weights, groups = model.get_weights(), analyze(model).groups
    before = counting(model)
    # The stream, the hidden layer, and what is inside of attention.
    assert len(groups) >= 3
    for number, group in enumerate(groups):
        model.set_weights(weights)
        unit = group.units[number % len(group.units)]
        own = zeroed(model, group, unit)
        gone = [
            int((mine | (was & ~now)).sum())
            for mine, was, now in zip(own, before, counting(model), strict=True)
        ]
        # Something that is no part of the unit reads it, and counts no more.
        assert sum(gone) > sum(int(mine.sum()) for mine in own), group.name
        small = pgmpf_tf.compact(model)
        assert model.count_params() - small.count_params() == sum(gone), group.name
        x = samples(model, 3, 9)
        assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
