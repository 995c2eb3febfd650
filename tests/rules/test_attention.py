"""Attention layers lose heads and width, and compute the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import deviation, outputs_of, randomize, samples

WIDTH = 12


def attend(layer, **call):
    return lambda x, other: layer(x, x, **call)


def cross(layer, **call):
    return lambda x, other: layer(x, other, **call)


def three(x, other):
    layer = layers.MultiHeadAttention(4, 3, value_dim=2)
    return layer(key=x, query=other, value=layers.ReLU()(x))


def masked(x, other):
    mask = np.arange(7)[:, None] >= np.arange(7)[None, :] - 1
    return layers.MultiHeadAttention(4, 3)(x, x, attention_mask=mask)


def keras_masked(x, other):
    other = layers.Masking()(ops.relu(other) * (other > 0.3))
    return layers.MultiHeadAttention(4, 3)(other, x)


def along_rows(x, other):
    """Attention along one of two axes."""
    rows = ops.concatenate([x[:, None], other[:, None]], axis=1)
    layer = layers.MultiHeadAttention(4, 3, attention_axes=2)
    return ops.max(layer(rows, rows), axis=1)


def with_unused_scores(x, other):
    layer = layers.MultiHeadAttention(4, 3)
    return layer(x, other, return_attention_scores=True)[0]


def twice(x, other):
    layer = layers.MultiHeadAttention(4, 3)
    return layer(layers.Add()([x, layer(x, x)]), other)


def grouped(**options):
    return layers.GroupQueryAttention(3, 8, 4, **options)


PASSING = {
    "self": attend(layers.MultiHeadAttention(4, 3)),
    "cross": cross(layers.MultiHeadAttention(4, 3)),
    "three": three,
    "causal": attend(layers.MultiHeadAttention(4, 3), use_causal_mask=True),
    "attention_mask": masked,
    "keras_mask": keras_masked,
    "no_bias": cross(layers.MultiHeadAttention(4, 3, use_bias=False)),
    "gate": cross(layers.MultiHeadAttention(4, 3, value_dim=5, use_gate=True)),
    "dropout": attend(layers.MultiHeadAttention(4, 3, dropout=0.3)),
    "sliding": attend(layers.MultiHeadAttention(4, 3, sliding_window=2)),
    "output_shape": attend(layers.MultiHeadAttention(4, 3, output_shape=WIDTH)),
    "axes": along_rows,
    "unused_scores": with_unused_scores,
    "twice": twice,
    "query_groups": attend(grouped()),
    "query_groups_cross": cross(grouped(use_bias=False)),
    "query_groups_causal": attend(grouped(dropout=0.1), use_causal_mask=True),
    "query_groups_gate": attend(grouped(use_gate=True)),
    "query_groups_twice": lambda x, other: (layer := grouped())(layer(x, x), other),
}

NARROW = {"cross", "three", "keras_mask", "no_bias", "gate", "unused_scores"}


def model_of(operation, residual=True, width=WIDTH):
    inputs = keras.Input((7, 3)), keras.Input((7, 2))
    x = layers.Dense(WIDTH, name="first")(inputs[0])
    other = layers.Dense(width, name="second")(inputs[1])
    y = operation(x, other)
    if residual and y.shape == x.shape:
        y = layers.LayerNormalization()(x + y)
    y = layers.Dense(4, name="reader")(layers.Dense(5, activation="relu")(y))
    model = keras.Model(inputs, y)
    randomize(model)
    return model


def case(name):
    """The model of a case, with layers of its own: cases share them between tests."""
    operation = PASSING[name]
    cells = operation.__closure__ or ()
    for cell in cells:
        if isinstance(cell.cell_contents, layers.Layer):
            layer = cell.cell_contents
            cell.cell_contents = type(layer).from_config(layer.get_config())
    return model_of(operation, width=6 if name in NARROW else WIDTH)


def attention_of(model):
    kinds = (layers.MultiHeadAttention, layers.GroupQueryAttention)
    return next(layer for layer in model.layers if isinstance(layer, kinds))


def heads_of(layer):
    return layer._value_dense._kernel.shape[1]


@pytest.mark.parametrize(
    ("name", "coupling"),
    [(name, "grouped") for name in PASSING]
    + [(name, "independent") for name in ("self", "query_groups_cross")],
)
def test_loses_heads_and_width(name, coupling):
    model = case(name)
    wrapped = pgmpf_tf.wrap(model, rate=0.5, coupling=coupling)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    assert heads_of(attention_of(small)) == heads_of(attention_of(model)) // 2
    assert small.get_layer("first").units == WIDTH // 2
    assert pgmpf_tf.profile(small).macs < 0.6 * pgmpf_tf.profile(model).macs
    again = keras.models.model_from_json(small.to_json())
    again.set_weights(small.get_weights())
    assert deviation(outputs_of(small, x), outputs_of(again, x)) == 0


@pytest.mark.parametrize(
    "name", ["three", "no_bias", "gate", "twice", "query_groups", "query_groups_cross"]
)
def test_heads_that_are_zero_by_hand_go(name):
    """Without any wrapping: values of one head, an input and an output are zero."""
    model = case(name)
    layer = attention_of(model)
    for variable, where in [
        (layer._value_dense._kernel, np.s_[:, 1]),
        (layer._value_dense._kernel, np.s_[:, 2]),
        (layer._output_dense._kernel, np.s_[0]),
        (layer._output_dense._kernel, np.s_[..., 2]),
        (model.get_layer("first").kernel, np.s_[:, 3]),
    ]:
        value = np.array(variable)
        value[where] = 0
        variable.assign(value)
    if layer._value_dense.bias is not None:
        value = np.array(layer._value_dense.bias)
        value[1] = 0
        layer._value_dense.bias.assign(value)
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
    lost = 1 + (layer._value_dense.bias is None)  # else head 2 has values all alike
    lost += "groups" not in name  # there, one of the two query heads of a unit lives on
    assert heads_of(attention_of(small)) == heads_of(layer) - lost


def test_scores_that_are_read_keep_all_heads():
    def read_scores(x, other):
        layer = layers.MultiHeadAttention(4, 3)
        y, scores = layer(x, x, return_attention_scores=True)
        return ops.concatenate([y, layers.Dense(2)(ops.max(scores, axis=1))], -1)

    model = model_of(read_scores, residual=False)
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert heads_of(attention_of(small)) == 4
    assert small.get_layer("first").units == WIDTH // 2
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


class Scaled(layers.MultiHeadAttention):
    """Attention with a product of its own."""

    def _compute_attention(self, query, key, value, *args, **kwargs):
        return super()._compute_attention(2 * query, key, value, *args, **kwargs)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.MultiHeadAttention(4, 3, output_shape=(2, 6)), "several axes"),
        (Scaled(4, 3), "in its own way"),
    ],
)
def test_pins_what_is_not_plain_attention(layer, reason):
    model = model_of(attend(layer), residual=False)
    pins = {pin.layer: pin.reason for pin in analyze(model).pins}
    assert reason in pins["first"]
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6


def test_a_unit_of_query_groups_is_one_head_of_keys():
    model = model_of(attend(grouped()))
    groups = {group.name: group for group in analyze(model).groups}
    heads = next(g for name, g in groups.items() if name.endswith("/query"))
    assert len(heads.units) == 4
    lost = {m.path.split("/")[-1]: len(m.units) for m in heads.members}
    assert lost == {"query": 8, "key": 4, "value": 4}


@pytest.mark.parametrize("kind", ["plain", "groups"])
def test_macs_are_those_of_the_layer_built_narrow(kind):
    layer = layers.MultiHeadAttention(4, 3) if kind == "plain" else grouped()
    wrapped = pgmpf_tf.wrap(model_of(attend(layer)), rate=0.5)
    wrapped.apply_masks()
    small = attention_of(pgmpf_tf.compact(wrapped))
    heads = 2 if kind == "plain" else 4
    products = 7 * 7 * heads * (3 + 3)
    projections = 7 * sum(np.prod(w.shape) for w in small.weights if w.ndim == 3)
    rows = pgmpf_tf.profile(pgmpf_tf.compact(wrapped)).layers
    macs = next(row.macs for row in rows if "Attention" in row.type)
    assert macs == projections + products
