"""Units, groups and pins, against what can be read off small networks by hand."""

import keras
import numpy as np
import pytest
from keras import layers

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.channels.units import NO_UNIT
from tests.graphs import deviation, outputs_of, randomize, samples
from tests.random_models import random_model


def bottleneck():
    x = keras.Input((8, 8, 3))
    stem = layers.Conv2D(6, 3, padding="same", name="stem")(x)
    y = layers.BatchNormalization(name="norm")(stem)
    y = layers.ReLU()(y)
    y = layers.Conv2D(4, 1, name="narrow")(y)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = layers.Conv2D(6, 1, name="wide")(y)
    y = layers.Add(name="sum")([stem, y])
    y = layers.Flatten()(y)
    model = keras.Model(x, layers.Dense(2, name="logits")(y))
    randomize(model)
    return model


def group_of(analysis, layer):
    return next(group for group in analysis.groups if layer in group.layers)


def test_what_meets_in_a_sum_is_one_group():
    analysis = analyze(bottleneck())
    assert analysis.unit_count == 10
    stream = group_of(analysis, "stem")
    assert stream.name == "stem"
    assert len(stream.units) == 6
    assert stream.layers == ("stem", "norm", "wide")
    inner = group_of(analysis, "narrow")
    assert inner.layers == ("narrow", "depthwise")
    assert len(inner.units) == 4
    assert analysis.filters == {"stem": 6, "narrow": 4, "wide": 6, "logits": 2}


def test_members_name_every_variable_of_a_channel():
    stream = group_of(analyze(bottleneck()), "stem")
    members = {(m.layer.name, m.role): m for m in stream.members}
    assert set(members) == {
        ("stem", "kernel"),
        ("stem", "bias"),
        ("norm", "scale"),
        ("norm", "offset"),
        ("wide", "kernel"),
        ("wide", "bias"),
    }
    for member in members.values():
        np.testing.assert_array_equal(member.units, stream.units)
        assert member.variable.shape[member.axis] == 6


def test_what_would_not_be_zero_is_kept_from_its_reader():
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(6, 3, activation="sigmoid", name="first")(x)
    y = layers.Conv2D(5, 3, padding="same", activation="relu", name="padded")(y)
    y = layers.Conv2D(4, 3, activation="sigmoid", name="second")(y)
    y = layers.Conv2D(2, 3, name="reader")(y)
    first, _, second = analyze(keras.Model(x, y)).groups
    (rows,) = (member for member in first.members if member.role == "input")
    assert (rows.path, rows.axis) == ("padded", 2)
    np.testing.assert_array_equal(rows.units, first.units)
    # Without padding, a constant can become a part of the bias.
    assert [member.role for member in second.members] == ["kernel", "bias"]


def test_independent_units_sit_in_one_convolution_each():
    analysis = analyze(bottleneck(), coupling="independent")
    assert analysis.unit_count == 16
    assert group_of(analysis, "wide").layers == ("wide",)


def test_every_unit_is_in_one_group():
    for seed in range(12):
        analysis = analyze(random_model(seed))
        units = [u for group in analysis.groups for u in group.units]
        assert sorted(units) == list(range(analysis.unit_count))
        for group in analysis.groups:
            for member in group.members:
                assert set(group.units) <= set(member.units)


def test_the_reason_of_a_pin_is_one_that_a_user_understands():
    pins = {pin.layer: pin for pin in analyze(bottleneck()).pins}
    assert set(pins) == {"logits"}
    assert pins["logits"].reason == "an output of the model"
    assert pins["logits"].filters == 2


def test_excluded_layers_hold_their_group():
    analysis = analyze(bottleneck(), exclude="w?de")
    pins = {pin.layer: pin.reason for pin in analysis.pins}
    assert pins["stem"] == pins["wide"] == "layer 'wide' is excluded"
    assert analysis.unit_count == 4


def test_frozen_layers_hold_nothing():
    model = bottleneck()
    model.get_layer("norm").trainable = False
    analysis = analyze(model)
    assert analysis.unit_count == 10
    assert not group_of(analysis, "stem").frozen
    model.get_layer("wide").trainable = False
    assert group_of(analysis, "stem").frozen
    assert not group_of(analysis, "narrow").frozen


def towers():
    """Two models whose layers have equal names."""
    x = keras.Input((6, 6, 3))

    def tower(name):
        inputs = keras.Input((6, 6, 3))
        y = layers.Conv2D(8, 3, name="conv")(inputs)
        return keras.Model(inputs, layers.BatchNormalization(name="norm")(y), name=name)

    both = layers.Concatenate()([tower("left")(x), tower("right")(x)])
    model = keras.Model(x, layers.Conv2D(2, 1, name="head")(both))
    randomize(model)
    return model


def test_layers_with_equal_names_are_told_apart():
    analysis = analyze(towers())
    assert [group.name for group in analysis.groups] == ["left/conv", "right/conv"]
    assert analysis.filters == {"left/conv": 8, "right/conv": 8, "head": 2}


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("left/*", ["right/conv"]),
        ("right", ["left/conv"]),
        ("*/norm", []),
        ("conv", []),
        ("left/conv", ["right/conv"]),
    ],
)
def test_patterns_match_paths_and_names(pattern, left):
    analysis = analyze(towers(), exclude=pattern)
    assert [group.name for group in analysis.groups] == left


def test_one_frozen_tower_does_not_hold_the_other():
    model = towers()
    model.get_layer("left").trainable = False
    wrapped = pgmpf_tf.wrap(model, rate={"left/*": 0.5, "right/*": 0.75})
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    convolutions = [x for x in small.layers if x.name in ("left_conv", "right_conv")]
    assert [layer.filters for layer in convolutions] == [8, 2]
    x = samples(model)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    model.get_layer("left").trainable = True
    wrapped.apply_masks()
    assert pgmpf_tf.compact(wrapped).get_layer("left_conv").filters == 4


def test_an_opaque_layer_is_listed():
    x = keras.Input((5, 6, 8))
    y = layers.ConvLSTM1D(6, 3, name="memory")(layers.Dense(8, name="dense")(x))
    pins = {pin.layer: pin for pin in analyze(keras.Model(x, y)).pins}
    assert "ConvLSTM1D 'memory'" in pins["dense"].reason
    assert "no rule for this ConvLSTM1D" in pins["memory"].reason


def test_slices_of_one_variable_may_repeat_a_unit():
    x = keras.Input((4, 4, 3))
    y = layers.Flatten()(layers.Conv2D(5, 3, name="conv")(x))
    y = layers.BatchNormalization(name="norm")(y)
    analysis = analyze(keras.Model(x, layers.Dense(2)(y)))
    (group,) = analysis.groups
    scale = next(m for m in group.members if m.role == "scale")
    assert scale.units.tolist() == [0, 1, 2, 3, 4] * 4


def test_analysis_is_linear_in_depth():
    """Counted, not timed: the work of a chain twice as deep is twice as much."""
    from pgmpf_tf.channels.folding import fold_gathers
    from pgmpf_tf.channels.graph import trace

    def calls(depth):
        x = y = keras.Input((4, 4, 4))
        for _ in range(depth):
            y = layers.Add()([y, layers.Conv2D(4, 1)(layers.ReLU()(y))])
        return len(fold_gathers(trace(keras.Model(x, y))).nodes)

    assert calls(40) == 2 * calls(20)


def test_bad_arguments():
    model = bottleneck()
    with pytest.raises(ValueError, match="`coupling` must be one of"):
        analyze(model, coupling="loose")
    with pytest.raises(ValueError, match=r"`exclude` .*Received: .*'block\*'"):
        analyze(model, exclude=["block*"])


def test_constants_hold_no_unit():
    x = keras.Input((4, 4, 3))
    y = layers.Conv2D(4, 1, name="conv")(x)
    y = keras.ops.pad(y, [(0, 0), (0, 0), (0, 0), (0, 2)])
    y = layers.BatchNormalization(name="norm")(y)
    analysis = analyze(keras.Model(x, layers.Conv2D(2, 1)(y)))
    scale = next(m for m in analysis.members if m.role == "scale")
    assert scale.units.tolist() == [0, 1, 2, 3, NO_UNIT, NO_UNIT]
