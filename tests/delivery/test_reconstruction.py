import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.delivery import reconstruction
from pgmpf_tf.delivery.copying import copy_of
from pgmpf_tf.delivery.reconstruction import reconstruct
from tests.delivery.networks import classifier, images
from tests.graphs import randomize


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Conv2D(4, (3, 2), padding="same"), (7, 6, 3)),
        (layers.Conv2D(4, 3, strides=2, padding="same"), (8, 7, 3)),
        (layers.Conv2D(4, 3, dilation_rate=2), (8, 7, 3)),
        (layers.Conv1D(4, 5, strides=3), (17, 2)),
        (layers.Conv3D(4, 2, padding="same", use_bias=False), (4, 3, 5, 2)),
        (layers.Dense(4), (5, 3)),
        (layers.Dense(4), (6,)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else None,
)
def test_rows_times_kernel_is_what_the_layer_computes(layer, shape):
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    outputs = np.asarray(layer(x)).reshape(-1, 4)
    weights = reconstruction._Weights.of(layer)
    rows = reconstruction._rows(layer, x, 10**6, np.random.default_rng(0))
    np.testing.assert_allclose(rows @ weights.kernel + weights.bias, outputs, atol=1e-5)


def network(inner=False, use_bias=True):
    """Filters 4 to 7 of the first layer are copies of 0 to 3."""
    image = keras.Input((9, 9, 2))
    x = layers.Conv2D(8, 3, activation="relu", use_bias=use_bias, name="first")(image)
    tail = [
        layers.Conv2D(6, 3, strides=2, padding="same", use_bias=use_bias),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(3, use_bias=use_bias),
    ]
    for layer in [keras.Sequential(tail, name="tail")] if inner else tail:
        x = layer(x)
    model = keras.Model(image, x)
    randomize(model, 0)
    first = model.get_layer("first")
    for weight in first.weights:
        value = keras.ops.convert_to_numpy(weight).copy()
        value[..., 4:] = value[..., :4]
        weight.assign(value)
    return model


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_what_is_there_twice_can_go(inner, use_bias, monkeypatch):
    """The other copy makes up for it, exactly but for the ridge; zeros stay."""
    monkeypatch.setattr(reconstruction, "_RIDGE", 1e-9)
    dense = network(inner, use_bias)
    pruned = copy_of(dense)
    first = pruned.get_layer("first")
    for weight in first.weights:
        weight.assign(weight * (np.arange(8) < 4))
    x = np.random.default_rng(0).normal(size=(64, 9, 9, 2)).astype("float32")
    wanted = dense.predict(x, verbose=0)
    assert not np.allclose(pruned.predict(x, verbose=0), wanted, rtol=0.1)
    assert reconstruct(dense, pruned, x, 10.0) == 3
    got = pruned.predict(x, verbose=0)
    np.testing.assert_allclose(got, wanted, atol=1e-3 * np.abs(wanted).max())
    for weight in first.weights:
        assert not np.asarray(weight)[..., 4:].any()


def test_a_trained_network_comes_nearer():
    dense = classifier(norm=False)
    pruned, x = copy_of(dense), images(96) / 255
    for weight in pruned.get_layer("first").weights:
        weight.assign(weight * (np.arange(16) >= 6))
    wanted = dense.predict(x, verbose=0)
    before = np.square(pruned.predict(x, verbose=0) - wanted).mean()
    reconstruct(dense, pruned, x[:64], 10.0)
    after = np.square(pruned.predict(x, verbose=0) - wanted)[64:].mean()
    assert after < 0.5 * before


def test_networks_with_keras_masks_stay_as_they_are():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Embedding(9, 4, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2),
        ]
    )
    other = copy_of(model)
    assert reconstruct(model, other, np.zeros((20, 5), "int32"), 1.0) == 0
