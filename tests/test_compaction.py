"""`compact` on models of every shape: the same function, a plain Keras model."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import pgmpf_tf
from pgmpf_tf import compaction
from tests.graphs import (
    assert_same,
    masked,
    outputs_of,
    randomize,
    residual_network,
    samples,
    zero_filters,
)


@pytest.mark.parametrize("coupling", ["grouped", "independent"])
@pytest.mark.feature("`compact`")
def test_a_residual_network_becomes_narrow(coupling):
    wrapped = masked(residual_network(), coupling=coupling)
    small = pgmpf_tf.compact(wrapped)
    assert_same(wrapped, small)
    assert type(small) is keras.src.models.functional.Functional
    for name in ("stem", "conv0a", "conv0b", "conv1a", "conv1b"):
        assert small.get_layer(name).filters == 4
    scattered = {type(o).__name__ for o in small.operations} & {"Take", "Pad"}
    assert bool(scattered) is (coupling == "independent")


def test_an_unpruned_model_stays_as_it_is():
    model = residual_network()
    small = pgmpf_tf.compact(model)
    assert [o.name for o in small.operations] == [o.name for o in model.operations]
    for one, other in zip(model.weights, small.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert outputs_of(model, samples(model))[0].tolist() == (
        outputs_of(small, samples(model))[0].tolist()
    )


def test_compacting_again_changes_nothing():
    small = pgmpf_tf.compact(masked(residual_network(), coupling="independent"))
    again = pgmpf_tf.compact(small)
    assert [w.shape for w in again.weights] == [w.shape for w in small.weights]
    assert len(again.operations) == len(small.operations)


def test_the_model_is_not_changed():
    model = masked(residual_network())
    before = [np.array(w) for w in model.get_weights()]
    operations = list(model.operations)
    small = pgmpf_tf.compact(model)
    small.set_weights([w + 1 for w in small.get_weights()])
    assert list(model.operations) == operations
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_zeros_of_another_tool_are_found():
    model = residual_network()
    zero_filters(model, "conv0a", [0, 3, 5])
    zero_filters(model, "stem", [1])
    small = pgmpf_tf.compact(model)
    assert_same(model, small)
    # BatchNorm after the zeroed filters has a beta: these channels are constant, and
    # where ReLU cuts that constant off, the channel goes.
    kept = small.get_layer("conv0a").filters
    norm = model.operations[model.operations.index(model.get_layer("conv0a")) + 1]
    gamma, beta, mean, var = (np.asarray(w) for w in norm.weights)
    constant = beta - mean * gamma / np.sqrt(var + norm.epsilon)
    assert kept == 8 - sum(constant[[0, 3, 5]] <= 0)


def test_a_constant_channel_is_not_taken_for_zero():
    model = residual_network()
    norm = model.get_layer("norm1b")
    gamma, beta, mean, variance = norm.get_weights()
    gamma[:4], beta[:2], beta[2:4] = 0, 0, 0.5
    norm.set_weights([gamma, beta, mean, variance])
    small = pgmpf_tf.compact(model)
    assert small.get_layer("conv1b").filters == 6
    assert_same(model, small)


def test_what_nobody_reads_goes():
    model = residual_network()
    layer = model.get_layer("conv0b")
    kernel, bias = layer.get_weights()
    kernel[:, :, [2, 4], :] = 0
    layer.set_weights([kernel, bias])
    small = pgmpf_tf.compact(model)
    assert small.get_layer("conv0a").filters == 6
    assert_same(model, small)


def test_a_dead_branch_goes_as_a_whole():
    model = residual_network()
    zero_filters(model, "norm0b", slice(None))
    small = pgmpf_tf.compact(model)
    assert_same(model, small)
    names = [o.name for o in small.operations]
    assert "conv0a" not in names
    assert "add0" not in names


def test_dead_channels_of_the_stream_go_when_every_writer_is_dead():
    model = residual_network()
    for norm in model.layers:
        if isinstance(norm, layers.BatchNormalization) and norm.name != "x":
            zero_filters(model, norm.name, [0, 1])
    small = pgmpf_tf.compact(model)
    assert_same(model, small)
    assert small.get_layer("stem").filters == 6
    assert small.get_layer("logits").kernel.shape[0] == 6


def test_no_layer_ends_without_channels():
    model = residual_network()
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([0 * w for w in layer.get_weights()])
    small = pgmpf_tf.compact(model)
    assert_same(model, small)
    assert all(0 not in w.shape for w in small.weights)


def test_shared_layer_loses_only_what_all_uses_can_spare():
    shared = layers.Conv2D(8, 3, padding="same", name="shared")
    one, two = keras.Input((6, 6, 8)), keras.Input((6, 6, 8))
    a, b = shared(one), shared(two)
    left = layers.Conv2D(3, 1, name="left")(a)
    right = layers.Conv2D(3, 1, name="right")(b)
    model = keras.Model([one, two], [left, right])
    randomize(model)
    for name, unread in (("left", [0, 1, 2]), ("right", [2, 3])):
        kernel, bias = model.get_layer(name).get_weights()
        kernel[:, :, unread, :] = 0
        model.get_layer(name).set_weights([kernel, bias])
    small = pgmpf_tf.compact(model)
    assert small.get_layer("shared").filters == 7
    assert_same(model, small)


def test_shared_layers_are_pruned_as_one():
    shared = layers.Conv2D(8, 3, padding="same", activation="relu", name="shared")
    x = keras.Input((6, 6, 8))
    y = layers.Conv2D(8, 3, padding="same")(x)
    model = keras.Model(x, layers.Conv2D(2, 1)(shared(shared(y))))
    randomize(model)
    wrapped = masked(model)
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("shared").filters == 4
    assert len(small.get_layer("shared")._inbound_nodes) == 2
    assert_same(wrapped, small)


def test_nested_models_used_twice():
    inner = keras.Sequential(
        [
            keras.Input((None, None, 8)),
            layers.Conv2D(6, 3, padding="same", name="inside"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(8, 1),
        ]
    )
    x = keras.Input((6, 6, 8))
    model = keras.Model(x, layers.Conv2D(2, 1)(inner(inner(x))))
    randomize(model)
    wrapped = masked(model)
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("inside").filters == 3
    assert_same(wrapped, small)


def test_structured_inputs_and_outputs():
    inputs = {"b": keras.Input((6, 6, 3), name="b"), "a": keras.Input((4,), name="a")}
    y = layers.Conv2D(8, 3, name="conv")(inputs["b"])
    z = layers.Dense(6, activation="relu", name="narrow")(inputs["a"])
    y = layers.GlobalAveragePooling2D()(y)
    outputs = {"sum": layers.Dense(2)(layers.Concatenate()([y, z])), "more": [y]}
    model = keras.Model(inputs, outputs)
    randomize(model)
    wrapped = masked(model)
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("narrow").units == 3
    assert small.get_layer("conv").filters == 8  # an output of the model
    answer = small(samples(model))
    assert answer["more"][0].shape == (2, 8)
    assert_same(wrapped, small)


def test_an_input_nobody_needs_stays():
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    dead = layers.Dense(3, name="dead")(two)
    model = keras.Model([one, two], layers.Dense(3)(one) + dead)
    model.get_layer("dead").set_weights([np.zeros((4, 3)), np.zeros(3)])
    small = pgmpf_tf.compact(model)
    assert [x.name for x in small.inputs] == ["one", "two"]
    # Only its weights are cut: older versions of Keras want every input connected.
    assert small.get_layer("dead").units == 1
    assert_same(model, small)


def test_the_small_model_trains_further():
    small = pgmpf_tf.compact(masked(residual_network(), coupling="independent"))
    small.compile("sgd", "mse")
    x = samples(small, batch=8)
    history = small.fit(x, np.ones((8, 4)), epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_round_to_keeps_multiples():
    wrapped = masked(residual_network(), rate=0.6, round_to=4)
    small = pgmpf_tf.compact(wrapped)
    assert {small.get_layer(n).filters for n in ("stem", "conv0a", "conv1b")} == {4}


def test_a_rounding_holds_and_is_saved():
    rounding = pgmpf_tf.Rounding(4, "down")
    wrapped = masked(residual_network(), rate=0.3, round_to=rounding)
    kept = {name: (len(m), int(m.sum())) for name, m in wrapped.masks().items()}
    assert all(left == max(4, (n - int(0.3 * n)) // 4 * 4) for n, left in kept.values())
    assert any(left < n - int(0.3 * n) for n, left in kept.values())
    config = wrapped.get_config()
    json.dumps(config["pruning"])
    again = pgmpf_tf.PrunedModel.from_config(config)
    assert again.get_config()["pruning"] == config["pruning"]
    assert config["pruning"]["round_to"] == {"multiple": 4, "direction": "down"}


@pytest.mark.parametrize("what", [None, "model.keras", layers.Dense(3)])
def test_only_models_are_taken(what):
    with pytest.raises(TypeError, match=r"`model` must be a keras\.Model"):
        pgmpf_tf.compact(what)


def test_an_unbuilt_model_is_refused():
    with pytest.raises(ValueError, match="`model` must be built"):
        pgmpf_tf.compact(keras.Sequential([layers.Dense(3)]))


@pytest.mark.parametrize("deep", [False, True])
def test_what_is_inserted_dissolves_when_pruned_again(deep, monkeypatch):
    if deep:
        monkeypatch.setattr(pgmpf_tf.compaction, "DEEP", 0)
    wrapped = masked(residual_network(), rate=0.3, coupling="independent")
    small = pgmpf_tf.compact(wrapped)
    kinds = [type(o).__name__ for o in small.operations]
    assert "Take" in kinds
    assert ("Transpose" in kinds) is not deep
    assert_same(wrapped, small)
    assert len(pgmpf_tf.compact(small).operations) == len(kinds)
    further = masked(small, rate=0.5, coupling="independent")
    smaller = pgmpf_tf.compact(further)
    assert smaller.get_layer("conv1b").filters == 3
    assert_same(further, smaller)


def test_origins_tell_what_is_cut_from_what_is_computed():
    @keras.saving.register_keras_serializable("tests")
    class Scale(layers.Layer):
        def build(self, shape):
            for name in ("cut", "computed", "mixed", "constant"):
                setattr(self, name, self.add_weight(shape=shape[-1:], name=name))

        def call(self, x):
            return x * self.cut * self.computed * self.mixed * self.constant

    class Rule(pgmpf_tf.rules.PerChannel):
        def rebuild_vector(self, node, weights, kept_in, kept_out, values):
            layer = node.operation
            cut = weights(layer.cut)[kept_in]
            other = weights(layer.constant)[kept_in]
            new = {
                "cut": np.where(np.arange(len(cut)) == 1, 1.0, cut),
                "computed": (cut + cut[::-1]) / 2,
                "mixed": np.where(np.arange(len(cut)) == 1, other, cut),
                "constant": np.ones(len(cut)),
            }
            return pgmpf_tf.rules.narrower(node, weights=new)

    pgmpf_tf.register_rule(Scale, Rule("cut"))
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.Conv2D(6, 1, name="conv"), Scale()]
    )
    model.add(layers.Conv2D(2, 1))
    randomize(model)
    # The mean of the first and the last of 1, 3, 5 is a place in the variable, too.
    zero_filters(model, "conv", [0, 2, 4])
    small, origins = compaction.compact_with_origins(model)
    by_name = {origin.variable.path.partition("/")[2]: origin for origin in origins}
    assert "cut" in by_name
    assert not {"computed", "mixed", "constant"} & by_name.keys()
    cut = by_name["cut"]
    assert cut.source is model.layers[1].cut
    assert cut.numbers.tolist() == [1, -1, 5]
    values = cut.cut(np.arange(6.0), np.full(3, 7.0))
    assert values.tolist() == [1.0, 7.0, 5.0]
    assert len(origins) == len(small.weights) - 3
