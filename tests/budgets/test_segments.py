"""A network falls into the parts that a runtime makes one operation of."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.budgets.costs import CostModel
from pgmpf_tf.channels.analysis import analyze
from tests.budgets.test_search import network


def parts_of(model, kept=None, coupling="grouped"):
    """The segments when groups keep so many units, by group name."""
    analysis = analyze(model, coupling=coupling)
    removed = np.zeros(analysis.unit_count, bool)
    for group in analysis.groups:
        if kept and group.name in kept:
            removed[group.units[kept[group.name] :]] = True
    costs = CostModel(model, analysis)
    return list(costs.segments(removed))


def classes(part):
    described = json.loads(part.family)
    return described.get("gather") or [name for name, _ in described["calls"]]


def test_what_follows_a_convolution_is_a_part_of_it():
    found = [classes(part) for part in parts_of(network())]
    block = [
        ["Conv2D", "BatchNormalization", "ReLU"],
        ["DepthwiseConv2D"],
        ["Conv2D"],
        ["Add"],
    ]
    assert found == [
        ["Conv2D"],
        *block,
        *block,
        ["Conv2D", "ReLU", "GlobalAveragePooling2D"],
        ["Dense"],
    ]


def test_equal_layers_are_one_family():
    blocks = [part.family for part in parts_of(network())][1:9]
    assert blocks[:4] == blocks[4:]
    assert len(set(blocks)) == 4


def test_padding_goes_to_the_convolution_after_it():
    image = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3)(layers.ZeroPadding2D(1)(layers.Conv2D(8, 1)(image)))
    model = keras.Model(image, layers.Flatten()(x))
    found = [classes(part) for part in parts_of(model)]
    assert found == [["Conv2D"], ["ZeroPadding2D", "DepthwiseConv2D", "Flatten"]]


def test_padding_that_no_convolution_reads_goes_to_what_it_follows():
    image = keras.Input((8, 8, 3))
    padded = layers.ZeroPadding2D(1)(layers.Conv2D(8, 1)(image))
    model = keras.Model(image, layers.MaxPooling2D(3, 2)(padded))
    (found,) = map(classes, parts_of(model))
    assert found == ["Conv2D", "ZeroPadding2D", "MaxPooling2D"]


def test_padding_that_several_read_is_no_part_of_the_convolution():
    image = keras.Input((8, 8, 3))
    padded = layers.ZeroPadding2D(1)(layers.Conv2D(8, 1)(image))
    twice = [layers.Conv2D(8, 3)(padded), layers.DepthwiseConv2D(3)(padded)]
    found = [classes(part) for part in parts_of(keras.Model(image, twice))]
    assert found[:2] == [["Conv2D"], ["ZeroPadding2D"]]


def test_widths_are_channels():
    parts = parts_of(network(), {"b0_expand": 10, "head": 7})
    widths = [(classes(part)[0], part.width_in, part.width_out) for part in parts]
    assert widths[0] == ("Conv2D", 3, 12)
    assert widths[1:5] == [
        ("Conv2D", 12, 10),
        ("DepthwiseConv2D", 10, 10),
        ("Conv2D", 10, 12),
        ("Add", 24, 12),
    ]
    assert widths[-2:] == [("Conv2D", 12, 7), ("Dense", 7, 5)]


def test_a_width_does_not_change_the_family():
    whole = [part.family for part in parts_of(network())]
    small = parts_of(network(), {"b0_expand": 10, "stem": 5, "head": 7})
    assert [part.family for part in small] == whole


@pytest.mark.parametrize("coupling", ["grouped", "independent"])
def test_entries_are_those_of_the_weights_that_are_left(coupling):
    model = network()
    analysis = analyze(model, coupling=coupling)
    costs = CostModel(model, analysis)
    for kept in (None, 0.5):
        removed = np.zeros(analysis.unit_count, bool)
        for group in analysis.groups if kept else ():
            removed[group.units[round(kept * len(group.units)) :]] = True
        entries = sum(part.entries for part in costs.segments(removed))
        assert entries == costs.cost(removed).params


def test_heads_of_attention_are_inside():
    x = keras.Input((6, 12))
    y = layers.MultiHeadAttention(4, 3)(x, x)
    model = keras.Model(x, layers.Dense(2)(layers.Dense(8)(y)))
    heads = next(g for g in analyze(model).groups if len(g.units) == 4)
    for kept in (4, 3, 1):
        inside = {
            "".join(classes(part)): part.inside
            for part in parts_of(model, {heads.name: kept})
        }
        assert inside == {"MultiHeadAttention": kept, "Dense": 0}


def test_scatters_of_independent_branches_are_parts():
    kept = {"b0_project": 6, "b1_project": 6}
    parts = parts_of(network(), kept, "independent")
    gathers = [part for part in parts if isinstance(classes(part), str)]
    assert [(classes(g), g.width_in, g.width_out) for g in gathers] == [
        ("pad", 6, 12),
        ("pad", 6, 12),
    ]
    model = network()
    analysis = analyze(model, coupling="independent")
    removed = np.zeros(analysis.unit_count, bool)
    for group in analysis.groups:
        if group.name == "b0_project":
            removed[group.units[::2]] = True
    (scatter,) = [
        part
        for part in CostModel(model, analysis).segments(removed)
        if isinstance(classes(part), str)
    ]
    assert (classes(scatter), scatter.width_in, scatter.width_out) == ("scatter", 6, 12)


def test_another_network_is_known_from_this_one():
    def known(model):
        return CostModel(model, analyze(model)).parts.network

    assert known(network(seed=0)) == known(network(seed=1))
    assert known(network()) != known(network(width=16))


@pytest.mark.parametrize("strides", [1, 2])
def test_what_changes_the_time_changes_the_family(strides):
    def family(**config):
        image = keras.Input((9, 9, 3))
        arguments = {"strides": 1, "padding": "same"} | config
        x = layers.Conv2D(8, 3, **arguments)(image)
        return parts_of(keras.Model(image, layers.Flatten()(x)))[0].family

    assert family() == family(kernel_initializer="zeros", name="other")
    assert (family() == family(strides=strides)) == (strides == 1)
    assert family() != family(padding="valid")
    assert family() != family(activation="gelu")
