"""Attention written out in operations: heads and width go, and the function stays."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from tests.graphs import deviation, outputs_of, randomize, samples

STEPS, HEADS, SIZE = 6, 4, 5
MODEL = HEADS * SIZE


def dense(units=MODEL, **options):
    return layers.Dense(units, **options)


def to_heads(x, heads=HEADS):
    return ops.reshape(x, (-1, STEPS, heads, SIZE))


def attend_by_matmul(q, k, v, bias=None):
    """Of tensors (batch, steps, heads, size)."""
    q, k, v = (ops.transpose(x, (0, 2, 1, 3)) for x in (q, k, v))
    scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / SIZE**0.5
    if bias is not None:
        scores = scores + bias
    weights = layers.Dropout(0.1)(ops.softmax(scores))
    y = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
    return ops.reshape(y, (-1, STEPS, MODEL))


def matmul(x):
    return attend_by_matmul(*(to_heads(dense()(x)) for _ in range(3)))


def biased(x):
    bias = np.random.default_rng(0).normal(size=(1, HEADS, STEPS, STEPS))
    q, k, v = (to_heads(dense()(x)) for _ in range(3))
    return attend_by_matmul(q, k, v, bias.astype("float32"))


def einsum(x):
    q, k, v = (to_heads(dense()(x)) for _ in range(3))
    scores = ops.einsum("btnh,bsnh->bnts", q, k)
    causal = np.tril(np.ones((STEPS, STEPS), bool))
    weights = layers.Softmax()(ops.where(causal, scores, -1e9))
    return ops.reshape(ops.einsum("bnts,bsnh->btnh", weights, v), (-1, STEPS, MODEL))


def projected(x, heads=HEADS):
    return layers.EinsumDense("abc,cde->abde", (STEPS, heads, SIZE), bias_axes="de")(x)


def projected_back(y):
    return layers.EinsumDense("abde,dec->abc", (STEPS, MODEL), bias_axes="c")(y)


def einsum_dense(x):
    q, k, v = (projected(x) for _ in range(3))
    scores = layers.Activation("softmax")(ops.einsum("btnh,bsnh->bnts", q, k))
    return projected_back(ops.einsum("bnts,bsnh->btnh", scores, v))


def fused(x):
    q, k, v = ops.split(dense(3 * MODEL)(x), 3, axis=-1)
    return attend_by_matmul(*map(to_heads, (q, k, v)))


def fused_and_unstacked(x):
    qkv = ops.reshape(dense(3 * MODEL)(x), (-1, STEPS, 3, HEADS, SIZE))
    q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 1, 3, 4)), axis=0)
    return attend_by_matmul(q, k, v)


def unstacked(x):
    qkv = ops.reshape(dense(3 * MODEL)(x), (-1, STEPS, 3, HEADS, SIZE))
    return attend_by_matmul(*ops.unstack(qkv, axis=2))


def grouped(x):
    q, k, v = to_heads(dense()(x)), *(projected(x, 2) for _ in range(2))
    return attend_by_matmul(q, ops.repeat(k, 2, axis=2), ops.repeat(v, 2, axis=2))


def grouped_by_axes(x):
    """Queries have an axis of groups, and one of those within."""
    q, k, v = projected(x), projected(x, 2), projected(x, 2)
    q = ops.reshape(q, (-1, STEPS, 2, HEADS // 2, SIZE))
    weights = ops.softmax(ops.einsum("btkgh,bskh->bkgts", q, k))
    y = ops.einsum("bkgts,bskh->btkgh", weights, v)
    return projected_back(ops.reshape(y, (-1, STEPS, HEADS, SIZE)))


def dot_product(x):
    q, k, v = (projected(x) for _ in range(3))
    return projected_back(ops.dot_product_attention(q, k, v))


def dot_product_biased(x):
    bias = np.random.default_rng(0).normal(size=(1, HEADS, STEPS, STEPS))
    q, k, v = (projected(x) for _ in range(3))
    y = ops.dot_product_attention(
        q, k, v, bias=bias.astype("float32"), is_causal=True, scale=0.7
    )
    return projected_back(y)


def rotated(x):
    """Rotary embedding, of halves."""
    angles = np.arange(STEPS)[:, None] / 10 ** np.arange(2)[None]
    cos, sin = (np.tile(f(angles), 2)[None, :, None] for f in (np.cos, np.sin))

    def rotate(y):
        one, two = ops.split(y, 2, axis=-1)
        turned = ops.concatenate([-two, one], axis=-1)
        return y * cos.astype("float32") + turned * sin.astype("float32")

    q, k, v = (
        layers.EinsumDense("abc,cde->abde", (STEPS, HEADS, 4))(x) for _ in range(3)
    )
    y = ops.dot_product_attention(rotate(q), rotate(k), v)
    return layers.EinsumDense("abde,dec->abc", (STEPS, MODEL))(y)


def rotated_pairs(x):
    """Rotary embedding, of pairs that are stacked."""
    q, k, v = (
        layers.EinsumDense("abc,cde->abde", (STEPS, HEADS, 4))(x) for _ in range(3)
    )

    def rotate(y):
        pairs = ops.reshape(y, (-1, STEPS, HEADS, 2, 2))
        both = ops.stack([-pairs[..., 1], pairs[..., 0]], axis=-1)
        return ops.reshape(both, (-1, STEPS, HEADS, 4))

    y = ops.dot_product_attention(rotate(q), rotate(k), v)
    return layers.EinsumDense("abde,dec->abc", (STEPS, MODEL))(y)


def windows(x):
    """Attention in windows of three steps, shifted by one."""
    y = ops.roll(x, -1, axis=1)
    y = ops.reshape(y, (-1, 3, MODEL))
    q, k, v = (
        ops.transpose(ops.reshape(dense()(y), (-1, 3, HEADS, SIZE)), (0, 2, 1, 3))
        for _ in range(3)
    )
    weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))), axis=-1)
    y = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
    y = dense()(ops.reshape(y, (-1, 3, MODEL)))
    return ops.roll(ops.reshape(y, (-1, STEPS, MODEL)), 1, axis=1)


def one_head(x):
    q, k, v = dense()(x), dense()(x), dense()(x)
    weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))))
    return ops.matmul(weights, v)


def sorted_steps(x):
    return ops.cumsum(ops.sort(dense()(x), axis=1), axis=1)


# Which part of the multiply-accumulates goes at least: 3/4 of a projection between
# narrowed ends, and half of the products.
CASES = {
    "matmul": matmul,
    "biased": biased,
    "einsum": einsum,
    "einsum_dense": einsum_dense,
    "fused": fused,
    "fused_and_unstacked": fused_and_unstacked,
    "unstacked": unstacked,
    "grouped": grouped,
    "grouped_by_axes": grouped_by_axes,
    "dot_product": dot_product,
    "dot_product_biased": dot_product_biased,
    "rotated": rotated,
    "rotated_pairs": rotated_pairs,
    "windows": windows,
    "one_head": one_head,
    "sorted_steps": sorted_steps,
}


def model_of(operation):
    inputs = keras.Input((STEPS, 3))
    x = layers.Dense(MODEL, name="first")(inputs)
    y = layers.LayerNormalization()(x + layers.Dense(MODEL)(operation(x)))
    y = layers.Dense(4, name="reader")(layers.Dense(6, activation="relu")(y))
    model = keras.Model(inputs, y)
    randomize(model)
    return model


@pytest.mark.parametrize("name", CASES)
def test_heads_and_width_go(name):
    model = model_of(CASES[name])
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    assert small.get_layer("first").units == MODEL // 2
    before, after = pgmpf_tf.profile(model).macs, pgmpf_tf.profile(small).macs
    assert after < 0.4 * before
    kinds = (layers.Dense, layers.EinsumDense)
    for old in model.layers:
        if isinstance(old, kinds) and old.name not in ("first", "reader"):
            new = small.get_layer(old.name)
            assert np.prod(new.kernel.shape) == np.prod(old.kernel.shape) / 4


@pytest.mark.parametrize(
    "name", ["biased", "einsum", "unstacked", "dot_product", "rotated"]
)
def test_zeros_by_hand_are_exact(name):
    """Any slices of any variables, tied to nothing."""
    rng = np.random.default_rng(len(name))
    model = model_of(CASES[name])
    for variable in model.trainable_variables:
        for axis, size in enumerate(variable.shape):
            value = np.array(variable)
            np.moveaxis(value, axis, 0)[rng.random(size) < 0.4] = 0
            variable.assign(value)
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
    assert small.count_params() < model.count_params()


def test_the_scale_is_that_of_the_heads_as_they_were():
    inputs = keras.Input((STEPS, 3))
    names = ("query", "key", "value")
    parts = [
        layers.EinsumDense("abc,cde->abde", (STEPS, HEADS, SIZE), name=name)(inputs)
        for name in names
    ]
    model = keras.Model(inputs, projected_back(ops.dot_product_attention(*parts)))
    randomize(model)
    for name in names:
        kernel = np.array(model.get_layer(name).kernel)
        kernel[..., 1:3] = 0
        model.get_layer(name).kernel.assign(kernel)
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
    for name in names:
        assert small.get_layer(name).kernel.shape == (3, HEADS, SIZE - 2)


def test_queries_of_zero_look_at_all_alike():
    """A softmax of zeros is no zero: heads without queries give the mean of values."""
    inputs = keras.Input((STEPS, 3))
    parts = [
        layers.EinsumDense("abc,cde->abde", (STEPS, heads, SIZE), name=name)(inputs)
        for name, heads in (("query", HEADS), ("key", 2), ("value", 2))
    ]
    q = ops.reshape(parts[0], (-1, STEPS, 2, HEADS // 2, SIZE))
    weights = ops.softmax(ops.einsum("btkgh,bskh->bkgts", q, parts[1]))
    y = ops.einsum("bkgts,bskh->btkgh", weights, parts[2])
    y = projected_back(ops.reshape(y, (-1, STEPS, HEADS, SIZE)))
    model = keras.Model(inputs, y)
    randomize(model)
    kernel = np.array(model.get_layer("query").kernel)
    kernel[:, :: HEADS // 2] = 0  # the first query of each key
    model.get_layer("query").kernel.assign(kernel)
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
