"""Keras masks: the compacted model sees the ones that the model saw."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.graph import trace
from tests.graphs import deviation, outputs_of, randomize, zero_filters

TEXT = np.array([[1, 2, 3, 0, 0, 0], [4, 0, 2, 1, 5, 0], [1, 1, 2, 3, 4, 5]])


def embedded(tokens, name=None, masked=True):
    """Vectors that carry a mask."""
    x = layers.Embedding(10, 8, mask_zero=masked)(tokens)
    return layers.Dense(8, name=name)(x)


def attend(cls, **options):
    def operation(x, other):
        return cls(**options)([x, other])

    return operation


def multi_head(x, other):
    return layers.MultiHeadAttention(2, 4)(x, other)


def block(x, other):
    """The first attention takes the mask off x, so that the second sees none."""
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    return layers.MultiHeadAttention(2, 4)(x, x)


def through_dropout(x, other):
    """At inference, a Dropout returns the very tensor that it gets."""
    y = layers.MultiHeadAttention(2, 4)(layers.Dropout(0.5)(x), other)
    return layers.MultiHeadAttention(2, 4)(layers.Add()([x, y]), other)


def grouped_query(x, other):
    """Unlike the other attention, it leaves the mask on x."""
    y = layers.GroupQueryAttention(4, 2, 1)(x, x)
    return layers.Maximum()([y, layers.UnitNormalization()(x), other])


def join(kind):
    return lambda x, other: kind()([x, other])


def nested(x, other):
    one, two = keras.Input((6, 8)), keras.Input((6, 8))
    inner = layers.LSTM(5, return_sequences=True)(layers.Add()([one, two]))
    return keras.Model([one, two], inner)([x, other])


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """Asks its input for the mask, without an argument for it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.memory = layers.LSTM(4, return_sequences=True)

    def call(self, x):
        return self.memory(x)


CASES = {
    "pooling": lambda x, other: x,
    "batch_normalization": lambda x, other: layers.BatchNormalization()(x),
    "multi_head": multi_head,
    "block": block,
    "through_dropout": through_dropout,
    "grouped_query": grouped_query,
    "attention": attend(layers.Attention),
    "scaled_attention": attend(layers.Attention, use_scale=True),
    "additive_attention": attend(layers.AdditiveAttention),
    "lstm": lambda x, other: layers.LSTM(5, return_sequences=True)(x),
    "bidirectional": lambda x, other: layers.Bidirectional(
        layers.GRU(5, return_sequences=True)
    )(x),
    "time_distributed": lambda x, other: layers.TimeDistributed(layers.Dense(5))(x),
    "nested": nested,
    "own_layer": lambda x, other: Block()(x),
    **{
        kind.__name__.lower(): join(kind)
        for kind in (
            layers.Add,
            layers.Average,
            layers.Concatenate,
            layers.Maximum,
            layers.Minimum,
            layers.Multiply,
            layers.Subtract,
        )
    },
}


def model_of(operation, end, masked=True):
    tokens = keras.Input((6,), dtype="int32")
    x = embedded(tokens, "first", masked)
    # with another mask
    other = embedded(ops.roll(tokens, 1, axis=1), "second", masked)
    model = keras.Model(tokens, layers.Dense(3)(end(operation(x, other))))
    randomize(model)
    return model


@pytest.mark.parametrize("end", [layers.GlobalAveragePooling1D, lambda: layers.LSTM(3)])
@pytest.mark.parametrize("case", CASES)
def test_masks_travel_through_what_is_inserted(case, end):
    model = model_of(CASES[case], end())
    # Different filters are zero, so that zeros must be put between channels.
    zero_filters(model, "first", [0, 3, 5])
    if "second" in [layer.name for layer in model.layers]:
        zero_filters(model, "second", [1, 3])
    expected = outputs_of(model, TEXT)
    small = pgmpf_tf.compact(model)
    again = pgmpf_tf.compact(small)
    assert deviation(expected, outputs_of(small, TEXT)) < 2e-6
    assert deviation(expected, outputs_of(again, TEXT)) < 2e-6
    assert small.count_params() <= model.count_params()


@pytest.mark.parametrize("case", ["multi_head", "maximum", "own_layer"])
def test_masks_travel_in_files_and_in_graphs(case, tmp_path):
    model = model_of(CASES[case], layers.GlobalAveragePooling1D())
    zero_filters(model, "first", [0, 3, 5])
    pgmpf_tf.compact(model).save(tmp_path / "small.keras")
    small = keras.saving.load_model(tmp_path / "small.keras")
    expected = model.predict(TEXT, verbose=0)
    assert deviation([expected], [small.predict(TEXT, verbose=0)]) < 2e-6


def test_the_text_is_such_that_a_lost_mask_would_be_seen():
    for case, operation in CASES.items():
        outputs = [
            outputs_of(model_of(operation, layers.LSTM(3), masked), TEXT)
            for masked in (True, False)
        ]
        assert deviation(*outputs) > 0.01, case


def test_the_graph_names_the_masks_that_are_used():
    tokens = keras.Input((6,), dtype="int32")
    x = embedded(tokens)
    model = keras.Model(tokens, layers.LSTM(3)(layers.Attention()([x, x])))
    nodes = trace(model).nodes
    by_name = {type(node.operation).__name__: node for node in nodes}
    masks = [n.outputs[0] for n in nodes if type(n.operation).__name__ == "NotEqual"]
    one, other = by_name["Attention"].kwargs["mask"]
    assert one is other
    assert one in masks
    assert len(by_name["LSTM"].masks) == 1
    assert by_name["LSTM"].inputs == by_name["Attention"].outputs


def test_a_mask_that_nothing_uses_is_not_in_the_graph():
    tokens = keras.Input((6,), dtype="int32")
    model = keras.Model(tokens, layers.Flatten()(embedded(tokens)))
    kinds = [type(node.operation).__name__ for node in trace(model).nodes]
    assert kinds == ["Embedding", "Dense", "Flatten"]


def test_an_output_keeps_its_mask_for_the_loss():
    tokens = keras.Input((6,), dtype="int32")
    model = keras.Model(tokens, layers.ReLU(name="out")(embedded(tokens, "first")))
    randomize(model)
    zero_filters(model, "first", [0, 3])
    small = pgmpf_tf.compact(model)
    targets = np.ones((3, 6, 8), "float32")
    for one in (model, small):
        one.compile(loss="mse")
    expected = model.evaluate(TEXT, targets, verbose=0)
    assert small.evaluate(TEXT, targets, verbose=0) == pytest.approx(expected, 1e-5)
    unmasked = np.square(model(TEXT) - targets).mean()
    assert abs(expected - unmasked) > 0.01 * expected
