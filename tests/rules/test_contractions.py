"""Products of kernels and of tensors lose channels, and compute the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import deviation, outputs_of, randomize, samples


def einsum(*arguments, **options):
    return lambda x: layers.EinsumDense(*arguments, **options)(x)


def heads(x, number=4, size=3, **options):
    return layers.EinsumDense(
        "abc,cde->abde", (7, number, size), bias_axes="de", **options
    )(x)


def heads_and_back(x):
    return layers.EinsumDense("abde,dec->abc", (7, 5), bias_axes="c")(heads(x))


def per_head(x):
    y = layers.EinsumDense("abde,def->abdf", (7, 4, 6), bias_axes="df")(heads(x))
    return layers.EinsumDense("abdf,dfc->abc", (7, 2))(y)


def per_head_without_heads(x):
    y = layers.Reshape((7, 2, 4))(x)
    return layers.EinsumDense("abde,def->abdf", (7, 2, 6), activation="relu")(y)


def constants_fold(x):
    return layers.EinsumDense("abde,dec->abc", (7, 5))(ops.softplus(heads(x)))


def constants_fold_into_heads(x):
    return heads(ops.softplus(x), activation="relu")


# name: the operation, and how many of the 8 filters before it are left
EINSUM_DENSE = {
    "plain": einsum("abc,cd->abd", (7, 5), bias_axes="d"),
    "ellipsis": einsum("...x,xy->...y", 5, bias_axes="y", activation="gelu"),
    "heads": heads,
    "heads_no_bias": einsum("abc,cde->abde", (7, 4, 3)),
    "heads_first": einsum("abc,dce->abde", (7, 4, 3), bias_axes="d"),
    "heads_ellipsis": einsum("...c,cde->...de", (4, 3), bias_axes="e"),
    "one_head": lambda x: heads(x, 1, 6),
    "transposed": einsum("abc,cd->adb", (5, 7), bias_axes="d"),
    "heads_and_back": heads_and_back,
    "per_head": per_head,
    "per_head_without_heads": per_head_without_heads,
    "over_positions": einsum("abc,bd->adc", (4, 8), bias_axes="d"),
    "over_both": einsum("abc,bcd->ad", (5,), bias_axes="d"),
    "scale": einsum("abc,c->abc", (7, 8)),
    "folds": constants_fold,
    "folds_into_heads": constants_fold_into_heads,
    "softmax_after": einsum("abc,cd->abd", (7, 5), activation="softmax"),
}


def model_of(operation, width=8):
    inputs = keras.Input((7, 3))
    y = operation(layers.Dense(width, name="first")(inputs))
    y = layers.Dense(4, name="reader")(layers.Flatten()(y))
    model = keras.Model(inputs, y)
    randomize(model)
    return model


def pruned(model, **options):
    wrapped = pgmpf_tf.wrap(model, rate=0.5, **options)
    wrapped.apply_masks()
    return wrapped


@pytest.mark.parametrize("name", EINSUM_DENSE)
def test_einsum_dense_loses_channels(name):
    wrapped = pruned(model_of(EINSUM_DENSE[name]))
    small = pgmpf_tf.compact(wrapped)
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    left = 8 if name == "over_positions" else 4  # what passes by is not told apart
    assert small.get_layer("first").units == left
    for old, new in zip(wrapped.layers, small.layers, strict=False):
        if isinstance(old, layers.EinsumDense) and name != "over_positions":
            part = 4 if name in ("heads", "heads_first") else 2
            assert np.prod(new.kernel.shape) <= np.prod(old.kernel.shape) / part
    again = keras.models.model_from_json(small.to_json())
    again.set_weights(small.get_weights())
    assert deviation(outputs_of(small, x), outputs_of(again, x)) == 0


@pytest.mark.parametrize(
    "name",
    ["heads", "heads_first", "transposed", "per_head", "folds", "over_both", "scale"],
)
def test_zeros_by_hand_are_exact(name):
    """Any slices of any variables, tied to nothing."""
    rng = np.random.default_rng(len(name))
    model = model_of(EINSUM_DENSE[name])
    for variable in model.trainable_variables:
        for axis, size in enumerate(variable.shape):
            value = np.array(variable)
            np.moveaxis(value, axis, 0)[rng.random(size) < 0.3] = 0
            variable.assign(value)
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
    assert small.count_params() < model.count_params()


def test_heads_are_units():
    groups = {g.name: g for g in analyze(model_of(heads_and_back)).groups}
    sizes = sorted(len(group.units) for group in groups.values())
    assert sizes == [4, 5, 8]  # heads, what they are projected to, and the stream


def test_an_equation_that_sums_up_an_axis_is_a_barrier():
    model = model_of(einsum("abc,d->abd", (7, 5)))
    pins = {pin.layer: pin.reason for pin in analyze(model).pins}
    assert "sums up an axis" in pins["first"]
    small = pgmpf_tf.compact(model)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6


def test_a_bias_that_all_filters_share_is_kept_from_what_reads_them():
    wrapped = pruned(model_of(einsum("abc,bdc->adc", (7, 8), bias_axes="d")))
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("first").units == 4
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


@pytest.mark.parametrize(("width", "zeros", "left"), [(7, 2, 7), (8, 1, 8), (9, 4, 5)])
def test_no_bias_is_added_along_another_axis(width, zeros, left):
    """On TensorFlow `ops.add` takes (7, 1) for a bias of 7 channels, if there are 7."""
    model = model_of(einsum("abc,bdc->adc", (7, width), bias_axes="d"), width)
    kernel, bias = model.get_layer("first").get_weights()
    kernel[:, :zeros], bias[:zeros] = 0, 0
    model.get_layer("first").set_weights([kernel, bias])
    reader = model.get_layer("reader")
    rows = reader.get_weights()[0].reshape(7, width, 4)
    rows[:, :zeros] = 0
    reader.kernel.assign(rows.reshape(7 * width, 4))
    small = pgmpf_tf.compact(model)
    (layer,) = (each for each in small.layers if isinstance(each, layers.EinsumDense))
    assert layer.kernel.shape[2] == left
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6


def test_filters_of_a_layer_with_a_bias_for_places_alone_are_masked():
    def operation(x):
        y = layers.EinsumDense("abc,bdc->adc", (7, 8), bias_axes="d")(x)
        return layers.BatchNormalization()(y)

    wrapped = pruned(model_of(operation))
    small = pgmpf_tf.compact(wrapped)
    x = samples(wrapped)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    assert small.get_layer("first").units == 4
