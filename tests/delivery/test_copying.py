import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.delivery.copying import without_last_activations

X = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")


def sums(model):
    return without_last_activations(model).predict(X, verbose=0)


@pytest.mark.parametrize(
    "last",
    [
        [layers.Dense(3, activation="relu")],
        [layers.Dense(3, activation="softmax")],
        [layers.Dense(3), layers.Softmax()],
        [layers.Dense(3), layers.Activation("relu")],
    ],
)
def test_outputs_are_what_the_last_activation_gets(last):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, "relu"), *last])
    wanted = model.layers[0](X) @ last[0].kernel + last[0].bias
    np.testing.assert_allclose(sums(model), wanted, atol=1e-5)
    config = model.layers[-1].get_config()
    assert config == last[-1].get_config()


def test_activations_that_lose_nothing_or_are_read_again_stay():
    image = keras.Input((5,))
    read = layers.Dense(3, "relu")(image)
    model = keras.Model(image, [read, layers.Dense(2, "sigmoid")(read)])
    for got, wanted in zip(sums(model), model.predict(X, verbose=0), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
