"""What was pruned can be pruned again, as if it had never been wide."""

import keras
import pytest
from keras import layers

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import deviation, outputs_of, randomize, samples


def pruned(model):
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    return wrapped, pgmpf_tf.compact(wrapped)


@pytest.mark.parametrize(
    "norm",
    [
        lambda: layers.LayerNormalization(epsilon=0.01),
        lambda: layers.LayerNormalization(dtype="mixed_bfloat16"),
        lambda: layers.GroupNormalization(1),
        lambda: layers.RMSNormalization(epsilon=0.1),
    ],
    ids=["layer", "mixed", "group", "rms"],
)
def test_a_block_is_pruned_three_times(norm):
    inputs = keras.Input((6, 3))
    x = layers.Dense(16, name="first")(inputs)
    x = layers.Add()(
        [x, layers.MultiHeadAttention(8, 2, name="heads")(*[norm()(x)] * 2)]
    )
    y = layers.Dense(16, activation="gelu", name="hidden")(norm()(x))
    x = norm()(layers.Add()([x, layers.Dense(16)(y)]))
    model = keras.Model(inputs, layers.Dense(2)(x))
    randomize(model)
    mixed = any(layer.compute_dtype == "bfloat16" for layer in model.layers)
    tolerance = 2e-2 if mixed else 2e-6  # bfloat16 has 8 bits
    for left in (8, 4, 2):
        units = sum(len(group.units) for group in analyze(model).groups)
        assert units == 5 * left  # the stream, the heads, and what is hidden
        wrapped, model = pruned(model)
        x = samples(model)
        assert deviation(outputs_of(wrapped, x), outputs_of(model, x)) < tolerance
        assert model.get_layer("first").units == left
        assert model.get_layer("hidden").units == left
        assert model.get_layer("heads").num_heads == left // 2
