"""Rules for layers of one's own, and what happens where they do not fit."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import deviation, outputs_of, samples
from tests.rules.test_rules import filters_of, image, model_of, pruned


def test_register_rule_for_a_layer_of_ones_own():
    class Tripled(layers.Layer):
        def call(self, x):
            return 3 * ops.nan_to_num(x)  # which nobody has a rule for

    model = model_of(image, Tripled())
    assert analyze(model).unit_count == 0
    pgmpf_tf.register_rule(Tripled, pgmpf_tf.rules.Elementwise())
    assert analyze(model).unit_count == 8
    wrapped = pruned(model)
    small = pgmpf_tf.compact(wrapped)
    assert filters_of(small) == 4
    x = samples(model)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


def test_register_rule_refuses_what_is_no_rule():
    with pytest.raises(TypeError, match="`layer` must be"):
        pgmpf_tf.register_rule("Dense", pgmpf_tf.rules.Elementwise())
    with pytest.raises(TypeError, match="`rule` must be"):
        pgmpf_tf.register_rule(layers.Lambda, pgmpf_tf.rules.Elementwise)


class Bare(layers.Layer):
    """A matrix product without bias or activation."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], self.units), name="matrix")

    def call(self, x):
        return x @ self.matrix

    def get_config(self):
        return super().get_config() | {"units": self.units}


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(pgmpf_tf.rules, "_RULES", dict(pgmpf_tf.rules._RULES))


def bare_model():
    return model_of(image, lambda x: layers.Conv2D(3, 1)(Bare(6, name="bare")(x)))


def test_mixing_needs_no_bias_and_no_activation(registry):
    pgmpf_tf.register_rule(Bare, pgmpf_tf.rules.Mixing("units", "matrix"))
    wrapped = pruned(bare_model())
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("bare").matrix.shape == (4, 3)
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    assert "bare" not in pgmpf_tf.profile(small).uncounted


def _warned():
    return pytest.warns(UserWarning, match="'bare' keeps all of its channels, since")


@pytest.mark.parametrize("question", ["label", "constants", "needs", "layout"])
def test_a_defect_of_a_rule_of_ours_costs_size_only(question, monkeypatch):
    model = pruned(model_of(image, layers.PReLU(name="bare")))

    def broken(*arguments):
        raise IndexError("a defect")

    rule = pgmpf_tf.rules.rule_for(model.get_layer("bare"))
    monkeypatch.setattr(type(rule.rule), question, broken)
    with _warned():
        small = pgmpf_tf.compact(model)
        analyze(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (pgmpf_tf.rules.Mixing("units"), "AttributeError"),  # its kernel is "matrix"
        (pgmpf_tf.rules.PerChannel("scale"), "AttributeError"),
        (pgmpf_tf.rules.BatchNormalization(), "AttributeError"),
        (pgmpf_tf.rules.PerChannel("matrix"), "one number per channel"),
    ],
)
def test_a_rule_that_does_not_fit_makes_a_barrier(registry, rule, reason):
    pgmpf_tf.register_rule(Bare, rule)
    with _warned():
        model = bare_model()
        pins = {pin.layer: pin.reason for pin in analyze(model).pins}
        small = pgmpf_tf.compact(model)
        assert pgmpf_tf.profile(model).uncounted == ("bare",)
    assert reason in pins["first"]
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6


def test_a_rule_whose_answer_cannot_be_built_makes_a_barrier(registry):
    pgmpf_tf.register_rule(Bare, pgmpf_tf.rules.Mixing("widths", "matrix"))
    wrapped = pruned(bare_model())
    with _warned():
        small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("bare").matrix.shape == (8, 6)
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


def test_a_subclass_with_its_own_call_is_a_barrier():
    class Odd(layers.ReLU):
        def call(self, x):
            return keras.ops.sort(super().call(x), axis=-1)

    class Even(layers.ReLU):
        pass

    assert analyze(model_of(image, Odd())).unit_count == 0
    assert analyze(model_of(image, Even())).unit_count == 8


def quick(x):
    return x * keras.ops.sigmoid(1.702 * x)


def soft(x):
    return x * keras.ops.softmax(x)


def tilted(x):
    return x * np.arange(1, 9, dtype="float32")


@pytest.mark.parametrize(("function", "units"), [(quick, 8), (soft, 0), (tilted, 0)])
def test_a_function_of_ones_own_is_looked_into(function, units):
    model = model_of(image, lambda x: layers.Dense(8, activation=function)(x))
    groups = {group.name: len(group.units) for group in analyze(model).groups}
    assert sum(groups.values()) == 8 + units  # the convolution, and the Dense layer
    wrapped = pruned(model)
    if function is quick:
        small = pgmpf_tf.compact(wrapped)
    else:  # Keras cannot copy a layer with a function that it has not been told of
        with pytest.warns(UserWarning, match="cannot be built anew: TypeError"):
            small = pgmpf_tf.compact(wrapped)
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
