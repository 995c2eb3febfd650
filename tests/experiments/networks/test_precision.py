"""Networks that compute in another precision, and come back from it."""

import numpy as np
import pytest

import pgmpf_tf
from experiments.networks.precision import in_precision
from tests.training.networks import convnet, images_and_labels


@pytest.mark.parametrize("wrapped", [False, True])
def test_there_and_back_nothing_is_lost(wrapped):
    model = convnet()
    if wrapped:
        model = pgmpf_tf.wrap(model, 0.5, epochs=3, seed=5)
        model.apply_masks()
    low = in_precision(model, "mixed_bfloat16")
    high = in_precision(low, "float32")
    assert type(low) is type(high) is type(model)
    assert {layer.compute_dtype for layer in low.layers[1:]} == {"bfloat16"}
    assert {layer.compute_dtype for layer in high.layers} == {"float32"}
    for value, other in zip(model.variables, high.variables, strict=True):
        np.testing.assert_array_equal(value, other)
    x, _ = images_and_labels(4)
    wanted = model.predict(x, verbose=0)
    np.testing.assert_array_equal(high.predict(x, verbose=0), wanted)
    deviation = np.abs(low.predict(x, verbose=0) - wanted).max()
    assert 0 < deviation < 0.1 * np.abs(wanted).max()
