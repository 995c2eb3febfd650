"""Kernels that lose filters and inputs: what is not zero where it is pruned."""

import keras
import numpy as np
import pytest

import pgmpf_tf
from tests.training.networks import suppressing

NAMES = ("first", "second", "third")


def network():
    """Convolutions with padding behind sigmoids."""
    keras.utils.set_random_seed(4)
    x = y = keras.Input((6, 6, 2))
    for name, filters in zip(NAMES, (8, 6, 4), strict=True):
        y = keras.layers.Conv2D(filters, 3, padding="same", name=name)(y)
        y = keras.layers.Activation("sigmoid")(y)
    y = keras.layers.Conv2D(3, 3, padding="same", name="reader")(y)
    return keras.Model(x, keras.layers.GlobalAveragePooling2D()(y))


def data(count=16):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(count, 6, 6, 2)).astype(np.float32)
    return x, rng.normal(size=(count, 3)).astype(np.float32)


def factors(model, masked):
    """For each kernel the factor of each entry, if a masked channel has one."""
    result, inputs = {}, np.ones(2)
    for name in (*NAMES, "reader"):
        filters = np.ones(3)
        if name in NAMES:
            filters = np.where(model.masks()[name] == 1, 1.0, masked)
        result[name] = inputs[:, None] * filters
        inputs = filters
    return result


def kernels(model):
    return {
        name: keras.ops.convert_to_numpy(model.get_layer(name).kernel)
        for name in (*NAMES, "reader")
    }


def distance(one, other, x):
    return np.abs(one.predict(x, verbose=0) - other.predict(x, verbose=0)).max()


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.optimizers.Adam(0.01),
        keras.optimizers.RMSprop(0.01, momentum=0.9),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_filters_and_inputs_stay_zero_and_the_small_network_goes_on(optimizer):
    model = pgmpf_tf.wrap(network(), 0.5, seed=1)
    model.compile(optimizer, "mse")
    x, y = data()
    model.fit(x, y, 8, epochs=6, verbose=0)
    for name, factor in factors(model, 0.0).items():
        np.testing.assert_array_equal((kernels(model)[name] != 0).all((0, 1)), factor)
    small = pgmpf_tf.compact(model, compile=True)
    assert [small.get_layer(name).filters for name in NAMES] == [4, 3, 2]
    # Sums over fewer channels: float32 rounding.
    assert distance(model, small, x) < 1e-5
    for _ in range(3):
        model.train_on_batch(x, y)
        small.train_on_batch(x, y)
    assert distance(model, small, x) < 1e-5


def test_what_is_masked_along_two_axes_is_suppressed_along_both():
    model, plain = (
        pgmpf_tf.wrap(network(), 0.5, method=suppressing(0.75), epochs=1000),
        network(),
    )
    model.update_masks(-1)
    for name in (*NAMES, "reader"):
        plain.get_layer(name).set_weights(model.get_layer(name).get_weights())
    x, y = data()
    moved = []
    for one in (model, plain):
        one.compile(keras.optimizers.SGD(0.1), "mse")
        before = kernels(one)
        one.train_on_batch(x, y)
        after = kernels(one)
        moved.append({name: after[name] - before[name] for name in after})
    found = factors(model, 0.25)
    assert found["second"].min() == 0.0625
    for name, factor in found.items():
        # What a weight moves by is the difference of two float32.
        np.testing.assert_allclose(moved[0][name], moved[1][name] * factor, atol=1e-6)
