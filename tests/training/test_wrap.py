"""What `wrap` takes, what it refuses, and what it shows."""

import inspect

import keras
import numpy as np
import pytest

import pgmpf_tf
from pgmpf_tf.methods import schedules
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.scores.criteria import GeometricMedian
from pgmpf_tf.training.model import PrunedModel
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import assert_pruned, convnet, images_and_labels


def test_the_wrapped_model_is_the_model():
    plain = convnet()
    model = wrap(plain, 0.5)
    x, _ = images_and_labels()
    assert isinstance(model, PrunedModel)
    assert model.name == plain.name
    np.testing.assert_array_equal(
        model.predict(x, verbose=0), plain.predict(x, verbose=0)
    )
    lines = []
    model.summary(print_fn=lines.append)
    assert f"Total params: {plain.count_params()}" in "".join(lines)


def test_a_sequential_model_keeps_its_structure():
    plain = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(2)]
    )
    model = wrap(plain, 0.5)
    x = np.ones((3, 4), np.float32)
    assert model(x).shape == (3, 2)
    ours, theirs = map(keras.ops.convert_to_numpy, (model(x), plain(x)))
    np.testing.assert_array_equal(ours, theirs)
    copy = PrunedModel.from_config(model.get_config())
    assert copy(x).shape == (3, 2)


class Scaled(keras.Sequential):
    """A Sequential subclass with a step of its own."""

    def train_step(self, data):
        return super().train_step(data)


def test_a_step_that_would_be_lost_is_refused():
    layers = [keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(2)]
    with pytest.raises(ValueError, match=r"`train_step` of its own.*Scaled"):
        wrap(Scaled(layers))

    class Named(keras.Sequential):
        """Nothing of it would be lost."""

    assert wrap(Named(layers)).masks()


def test_a_compiled_model_leaves_its_training_behind():
    plain = convnet()
    plain.compile("adam", "mse")
    model = wrap(plain, 0.5)
    assert not model.compiled
    assert not hasattr(model, "optimizer")
    assert "compile_config" not in model.get_config()["model"]


def test_a_clone_is_plain():
    clone = keras.models.clone_model(wrap(convnet(), 0.5))
    assert not isinstance(clone, PrunedModel)


@pytest.mark.parametrize("rate", [np.float32(0.5), {"*": np.float64(0.5)}])
def test_rates_may_be_numbers_of_numpy(rate, tmp_path):
    model = wrap(convnet(), rate)
    model.save(tmp_path / "model.keras")
    model.apply_masks()
    assert model.masks()["first"].sum() == 4


@pytest.mark.parametrize("structure", ["list", "dict"])
def test_inputs_and_outputs_keep_their_structure(structure):
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    hidden = keras.layers.Concatenate()(
        [keras.layers.Dense(4)(a), keras.layers.Dense(4)(b)]
    )
    out = keras.layers.Dense(1, name="out")(hidden)
    if structure == "dict":
        plain = keras.Model({"a": a, "b": b}, {"out": out})
        x = {"a": np.ones((5, 2)), "b": np.ones((5, 3))}
    else:
        plain = keras.Model([a, b], [out])
        x = [np.ones((5, 2)), np.ones((5, 3))]
    expected, result = plain.predict(x, verbose=0), wrap(plain).predict(x, verbose=0)
    assert type(result) is type(expected)
    keras.tree.map_structure(np.testing.assert_array_equal, result, expected)


def test_apply_masks_prunes_hard_without_training():
    model = wrap(convnet(), 0.5)
    kernel = model.get_layer("second").kernel.numpy()
    depthwise = model.get_layer("depthwise").kernel.numpy()
    model.apply_masks()
    assert_pruned(model)
    # The unit's score is the sum of its two filters' norms.
    norms = np.sqrt((kernel**2).sum((0, 1, 2))) + np.sqrt((depthwise**2).sum((0, 1, 3)))
    removed = set(np.argsort(norms)[:3])
    assert set(np.flatnonzero(model.masks()["second"] == 0)) == removed


def test_rates_by_layer_rounding_and_criteria():
    model = wrap(convnet(), {"first": 0.5}, round_to=3)
    model.apply_masks()
    assert model.masks()["first"].sum() == 6  # 4 rounded up
    assert model.masks()["second"].all()
    model = wrap(convnet(), 0.5, criterion=GeometricMedian(combine="max"))
    model.apply_masks()
    assert_pruned(model)
    gammas = np.array([3, 1, -4, 2, 0.5, 6, 7, 8.0])
    plain = convnet()
    plain.get_layer("norm").gamma.assign(gammas)
    model = wrap(plain, {"first": 0.5}, criterion="batchnorm_scale")
    model.apply_masks()
    np.testing.assert_array_equal(model.masks()["first"], np.abs(gammas) > 3)


def test_the_random_criterion_draws_once():
    model = wrap(convnet(), 0.5, criterion="random", seed=3)
    model.apply_masks()
    masks = model.masks()
    model.apply_masks()
    for name, mask in model.masks().items():
        np.testing.assert_array_equal(mask, masks[name])
    assert_pruned(model)


def test_pruning_summary():
    lines = []
    model = wrap(convnet(), {"first": 0.5}, exclude="scores")
    model.pruning_summary(lines.append)
    assert " first first 8 8 4 50.0% " in " ".join("".join(lines).split())
    lines.clear()
    model.apply_masks()
    model.pruning_summary(lines.append)
    text = " ".join("".join(lines).split())
    assert " first first 8 4 4 50.0% " in text
    assert " second second, depthwise 6 6 6 0.0% " in text
    assert " scores 3 of 3 an output of the model" in text


def test_the_summary_goes_to_standard_output(capsys):
    wrap(convnet()).pruning_summary()
    assert "depthwise" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rate": 1.0}, ValueError, r"`rate` must be .* in \[0, 1\).*rate=1.0"),
        ({"rate": -0.5}, ValueError, r"`rate` must be .* in \[0, 1\)"),
        ({"rate": "half"}, TypeError, "`rate` must be the fraction"),
        ({"rate": {"conv9": 0.5}}, ValueError, "`rate` must.*first.*'conv9'"),
        ({"method": "lottery"}, ValueError, "`method` must be one of.*'lottery'"),
        ({"method": 3}, TypeError, "`method` must be the name.*method=3"),
        ({"criterion": "l7"}, ValueError, "`criterion` must be one of.*'l7'"),
        ({"criterion": 7}, TypeError, "`criterion` must be a name, a Criterion"),
        ({"criterion": "batchnorm_scale"}, ValueError, "group 'second'.*has none"),
        ({"coupling": "loose"}, ValueError, "`coupling` must be.*'loose'"),
        ({"exclude": "conv9*"}, ValueError, "'conv9\\*'"),
        ({"suppress": "weights"}, ValueError, "`suppress` must be one of.*'weights'"),
        ({"epochs": 0}, ValueError, "`epochs` must be an int.*epochs=0"),
        ({"epochs": 2.5}, TypeError, "`epochs` must be an int.*2.5"),
        ({"round_to": 0}, ValueError, "`round_to` must be an int"),
        ({"round_to": 9}, ValueError, "`round_to` must be so low.*has 8.*=9"),
        ({"rate": 0.1}, ValueError, "`rate` must be so high.*has 8.*=0.1"),
        ({"seed": -1}, ValueError, "`seed` must be an int of at least 0"),
        ({"distillation": "half"}, TypeError, "`distillation` must be a pgmpf_tf"),
        ({"rates": 0.5}, TypeError, "unexpected keyword argument 'rates'"),
        (
            {
                "epochs": 3,
                "method": PruningConfig(updates=schedules.every_epochs(5)),
            },
            ValueError,
            "`epochs` must be at least the 5 epochs.*epochs=3",
        ),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        wrap(convnet(), **options)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def test_models_that_cannot_be_wrapped_are_refused():
    with pytest.raises(TypeError, match=r"`model` must be a Keras model.*'tiny'"):
        wrap("tiny")
    with pytest.raises(ValueError, match="wrapped already"):
        wrap(wrap(convnet()))
    with pytest.raises(ValueError, match="`model` must be built"):
        wrap(keras.Sequential([keras.layers.Dense(3)]))
    with pytest.raises(ValueError, match="`model` must be built"):
        wrap(Subclassed())


def test_a_model_without_anything_to_prune_is_refused_with_reasons():
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="only")])
    with pytest.raises(
        ValueError, match=r"no filters that can be pruned.*only: .*output"
    ):
        wrap(plain)


def test_a_frozen_network_is_pruned_when_it_is_trained():
    model = convnet()
    model.trainable = False
    wrapped = wrap(model, 0.5)
    before = [np.array(weight) for weight in model.get_weights()]
    wrapped.apply_masks()
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    model.trainable = True
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert small.count_params() < model.count_params()


def test_a_frozen_normalization_does_not_hold_its_convolution():
    model = convnet()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    wrapped = wrap(model, 0.5)
    reference = wrap(convnet(), 0.5)
    for one in (wrapped, reference):
        one.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert small.count_params() == pgmpf_tf.compact(reference).count_params()
    x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:]))
    masked, compacted = map(keras.ops.convert_to_numpy, (wrapped(x), small(x)))
    np.testing.assert_allclose(masked, compacted, atol=1e-5)


def test_wrap_and_its_kind_are_public():
    assert pgmpf_tf.wrap is wrap
    assert len(inspect.signature(wrap).parameters) <= 12
    assert pgmpf_tf.PruningConfig is PruningConfig
    assert pgmpf_tf.callbacks.PruningLog
