import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.delivery.distance import losses, per_sample


@pytest.fixture(scope="module")
def network():
    """Classes, and an output with positions: the two kinds of losses."""
    x = keras.Input((6, 4))
    y = layers.Conv1D(3, 3, name="positions")(x)
    classes = layers.Dense(5, "softmax", name="classes")(layers.Flatten()(y))
    return keras.Model(x, {"classes": classes, "positions": y})


def test_the_mean_over_samples_is_what_keras_measures(network):
    draws = np.random.default_rng(0)
    x = draws.normal(size=(40, 6, 4)).astype("float32")
    outputs = network.predict(x, verbose=0)
    other = network.predict(x[::-1], verbose=0)
    loss = losses(network, other)
    network.compile(loss=loss)
    measured = network.evaluate(x, other, verbose=0, return_dict=True)["loss"]
    found = per_sample(loss, outputs, other)
    assert found.shape == (40,)
    assert measured > 0.1
    assert np.mean(found) == pytest.approx(measured, rel=1e-5)
    # Each sample has its own.
    first = per_sample(
        loss, *({k: v[:1] for k, v in y.items()} for y in (outputs, other))
    )
    assert first == pytest.approx(found[:1], rel=1e-5)


def test_half_precision_does_not_overflow(network):
    x = np.ones((2, 6, 4), "float32")
    outputs = network.predict(x, verbose=0)
    loss = losses(network, outputs)
    far = outputs | {"positions": np.full_like(outputs["positions"], 6e4)}
    half = [{k: v.astype("float16") for k, v in y.items()} for y in (far, outputs)]
    assert np.isfinite(per_sample(loss, *half)).all()
