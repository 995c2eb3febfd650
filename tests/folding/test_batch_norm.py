"""A folded model computes the same with fewer BatchNormalization layers."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from pgmpf_tf.folding.batch_norm import fold_batch_norm

RELUS = {
    "layer": lambda: layers.ReLU(),
    "leaky": lambda: layers.LeakyReLU(negative_slope=0.3),
    "parametric": lambda: layers.PReLU(shared_axes=[1, 2]),
    "activation": lambda: layers.Activation("relu"),
    "operation": lambda: keras.ops.relu,
    "function": lambda: keras.activations.relu,
}


def stirred(model, positive=False, seed=0):
    """Weights that no initializer gives; scales of both signs, or positive ones."""
    generator = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        for weight in layer.weights:
            values = generator.normal(size=weight.shape)
            if weight.name == "moving_variance" or (
                positive and weight.name == "gamma"
            ):
                values = np.abs(values) + 0.2
            weight.assign(values)
    return model


def norms(model):
    return [x for x in model.layers if isinstance(x, layers.BatchNormalization)]


def check(model, left):
    """Folds; the function must stay, and so many normalizations be left."""
    generator = np.random.default_rng(7)
    x = [
        generator.normal(size=(4, *t.shape[1:])).astype("float32") for t in model.inputs
    ]
    weights = model.get_weights()
    folded = fold_batch_norm(model)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
    wanted, got = keras.tree.flatten(model(x)), keras.tree.flatten(folded(x))
    for one, other in zip(wanted, got, strict=True):
        scale = np.abs(one).max()
        np.testing.assert_allclose(other / scale, one / scale, atol=2e-5)
    assert folded.output_names == model.output_names
    assert len(norms(folded)) == left
    return folded


def network(*stack, shape=(9, 8, 3)):
    model = keras.Sequential([keras.Input(shape), *stack])
    return keras.Model(model.inputs[0], model.outputs[0])


BEHIND = {
    "Dense": lambda **k: layers.Dense(5, **k),
    "EinsumDense": lambda **k: layers.EinsumDense(
        "abcd,de->abce", (None, None, 5), bias_axes="e" if k["use_bias"] else None
    ),
    "Conv2D": lambda **k: layers.Conv2D(5, 3, padding="same", **k),
    "grouped": lambda **k: layers.Conv2D(6, 3, groups=3, **k),
    "Conv2DTranspose": lambda **k: layers.Conv2DTranspose(5, 3, strides=2, **k),
    "DepthwiseConv2D": lambda **k: layers.DepthwiseConv2D(3, depth_multiplier=2, **k),
    "SeparableConv2D": lambda **k: layers.SeparableConv2D(5, 3, padding="same", **k),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", BEHIND)
def test_behind_a_linear_layer_it_always_goes(kind, bias):
    norm = layers.BatchNormalization(scale=bias, center=not bias)
    model = network(
        BEHIND[kind](use_bias=bias), layers.Dropout(0.5), norm, layers.ReLU()
    )
    check(stirred(model), 0)


BEFORE = {
    "Dense": (lambda: layers.Dense(5), True),
    "1x1": (lambda: layers.Conv2D(5, 1, strides=2, padding="same"), True),
    "valid": (lambda: layers.Conv2D(5, 3, use_bias=False), True),
    "grouped": (lambda: layers.Conv2D(6, 3, groups=3), True),
    "same": (lambda: layers.Conv2D(5, 3, padding="same"), False),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), True),
    "depthwise, same": (lambda: layers.DepthwiseConv2D(3, padding="same"), False),
    "separable": (lambda: layers.SeparableConv2D(5, 3, use_bias=False), True),
    "separable, same": (lambda: layers.SeparableConv2D(5, 3, padding="same"), False),
    "transposed": (lambda: layers.Conv2DTranspose(5, 2, strides=2), False),
    "transposed 1x1": (lambda: layers.Conv2DTranspose(5, 1), True),
}


@pytest.mark.parametrize("kind", BEFORE)
def test_before_a_linear_layer_it_goes_where_no_zeros_meet_the_shift(kind):
    make, goes = BEFORE[kind]
    # A sigmoid lets nothing through to the layer before.
    model = network(layers.Activation("sigmoid"), layers.BatchNormalization(), make())
    check(stirred(model), 0 if goes else 1)


@pytest.mark.parametrize("kind", BEFORE)
def test_a_scale_alone_goes_even_there(kind):
    norm = layers.BatchNormalization(center=False)
    model = stirred(network(layers.Activation("sigmoid"), norm, BEFORE[kind][0]()))
    norm.moving_mean.assign(np.zeros(3))
    check(model, 0)


@pytest.mark.parametrize("relu", RELUS)
def test_behind_a_relu_scale_goes_back_and_shift_forward(relu):
    image = keras.Input((9, 8, 3))
    x = RELUS[relu]()(layers.Conv2D(6, 3)(image))
    x = layers.Conv2D(4, 3)(layers.BatchNormalization()(x))
    check(stirred(keras.Model(image, x)), 0)


def test_behind_a_relu_in_the_convolution_too():
    convolution = layers.Conv2D(6, 3, activation="relu")
    tail = [layers.BatchNormalization(), layers.Flatten(), layers.Dense(3)]
    check(stirred(network(convolution, *tail)), 0)


@pytest.mark.parametrize("positive", [True, False])
def test_what_meets_zeros_stays_as_an_addition_where_scales_are_positive(positive):
    norm = layers.BatchNormalization()
    model = network(
        layers.Conv2D(6, 3, activation="relu"),
        norm,
        layers.Conv2D(4, 3, padding="same"),
    )
    stirred(model, positive=True)
    if not positive:
        norm.gamma.assign([1.0, 2.0, -0.5, 1.0, 0.0, 3.0])
    (left,) = norms(check(model, 1))
    assert (left.scale, left.center) == ((False, False) if positive else (True, True))


def test_it_goes_through_poolings_to_a_dense_layer():
    tail = [
        layers.AveragePooling2D(2),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3),
    ]
    convolution = layers.Conv2D(6, 3, activation="relu")
    check(stirred(network(convolution, layers.BatchNormalization(), *tail)), 0)


@pytest.mark.parametrize("positive", [True, False])
def test_a_maximum_keeps_only_positive_scales(positive):
    model = network(
        layers.Activation("sigmoid"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(2),
        layers.Conv2D(4, 2),
    )
    check(stirred(model, positive), 0 if positive else 1)


def test_two_in_a_row_and_one_on_the_input():
    model = network(
        layers.BatchNormalization(),
        layers.BatchNormalization(),
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
    )
    check(stirred(model), 0)


def test_an_output_keeps_its_name_and_what_else_reads_a_tensor_its_values():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="first")(image)
    y = layers.BatchNormalization(name="norm")(x)
    z = layers.BatchNormalization(name="other")(layers.Conv2D(4, 3)(layers.ReLU()(y)))
    check(stirred(keras.Model(image, [x, z])), 1)


def test_a_shared_layer_and_one_that_trains_stay():
    image = keras.Input((8, 8, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    x = layers.BatchNormalization()(shared(shared(image)))
    model = stirred(keras.Model(image, x))
    check(model, 1)
    x = layers.BatchNormalization()(layers.Conv2D(3, 3)(image), training=True)
    check(stirred(keras.Model(image, x)), 1)


def test_a_branch_that_adds_up_keeps_both_terms():
    """Pre-activation: the stream is read by two, so nothing may change it."""
    image = keras.Input((8, 8, 3))
    stream = layers.Conv2D(4, 3, padding="same")(image)
    x = layers.ReLU()(layers.BatchNormalization()(stream))
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    check(stirred(keras.Model(image, layers.Add()([stream, x]))), 1)


def test_nested_models_are_looked_into():
    inner = network(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU())
    model = network(inner, layers.Conv2D(3, 1), layers.BatchNormalization())
    check(stirred(model), 0)


PIECES = [
    lambda: layers.Conv2D(4, 3, padding="same"),
    lambda: layers.Conv2D(4, 2, activation="relu"),
    lambda: layers.DepthwiseConv2D(3, padding="same", use_bias=False),
    lambda: layers.BatchNormalization(),
    lambda: layers.BatchNormalization(scale=False),
    lambda: layers.ReLU(),
    lambda: layers.ReLU(6.0),
    lambda: layers.Activation("tanh"),
    lambda: layers.MaxPooling2D(2, padding="same"),
    lambda: layers.AveragePooling2D(2, strides=1, padding="same"),
    lambda: layers.ZeroPadding2D(1),
    lambda: layers.Dropout(0.3),
]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(PIECES) - 1), min_size=2, max_size=9), st.booleans())
def test_whatever_follows_whatever_the_function_stays(numbers, positive):
    stack = [PIECES[number]() for number in numbers]
    model = network(*stack, layers.Flatten(), layers.Dense(3), shape=(12, 12, 4))
    model = stirred(model, positive, seed=sum(numbers))
    x = np.random.default_rng(1).normal(size=(3, 12, 12, 4)).astype("float32")
    wanted, got = model(x).numpy(), fold_batch_norm(model)(x).numpy()
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(got / scale, wanted / scale, atol=2e-5)


def test_what_is_no_model_is_an_error():
    with pytest.raises(TypeError, match=r"keras\.Model"):
        fold_batch_norm(3)
