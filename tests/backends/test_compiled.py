"""What a backend compiles is compiled once, whatever the sizes of the batches."""

import keras
import numpy as np
import pytest
from keras import ops

from pgmpf_tf.backends import current as backend

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="others have no open sizes"
)


def batches(*sizes):
    return [np.arange(3.0 * size, dtype="float32").reshape(size, 3) for size in sizes]


@on_tensorflow
def test_a_smaller_last_batch_does_not_compile_anew():
    weight = keras.Variable(np.float32([1, 2, 3]))
    calls = []

    def function(x, y, weights):
        calls.append(x)
        assert weights is None
        return [x["input"] * weight, ops.sum(y)]

    run = backend.compiled(function, [weight])
    for x in batches(4, 4, 2, 1):
        product, total = run({"input": x}, x[:, 0], None)
        np.testing.assert_array_equal(product, x * [1, 2, 3])
        assert float(total) == x[:, 0].sum()
    assert len(calls) == 1


def test_a_function_may_want_to_know_how_many_samples_there_are():
    def function(x):
        return x + np.arange(x.shape[0] * 3).reshape(x.shape)

    run = backend.compiled(function, [])
    for x in batches(4, 4, 2):
        np.testing.assert_array_equal(run(x), 2 * x)


def test_variables_are_read_as_they_are():
    weight = keras.Variable(np.float32(2))
    run = backend.compiled(lambda x: x * weight, [weight])
    (x,) = batches(2)
    np.testing.assert_array_equal(run(x), 2 * x)
    weight.assign(np.float32(3))
    np.testing.assert_array_equal(run(x), 3 * x)
