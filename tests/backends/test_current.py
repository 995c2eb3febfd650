"""Functions that are compiled and differentiated, on the backend in use."""

import importlib

import keras
import numpy as np
import pytest

from pgmpf_tf.backends import current


def numbers(value):
    return keras.ops.convert_to_numpy(value)


def test_a_compiled_function_takes_structures_and_reads_variables_as_they_are():
    variable = keras.Variable(np.float32([1, 2]))

    def scaled(pair, nothing):
        assert nothing is None
        return {"sum": pair[0] + pair[1], "product": [pair[0] * variable]}

    run = current.compiled(scaled, [variable])
    for value in (1, 5):
        variable.assign(np.float32([value, 2]))
        found = run((np.float32([2, 3]), np.float32([4, 5])), None)
        np.testing.assert_array_equal(numbers(found["sum"]), [6, 8])
        np.testing.assert_array_equal(numbers(found["product"][0]), [2 * value, 6])


def test_what_a_compiled_function_assigns_it_alone_sees():
    variable = keras.Variable(np.float32(3))

    def doubled():
        variable.assign(2 * variable)
        return variable + 1.0

    run = current.compiled(doubled, [variable])
    assert [float(numbers(run())) for _ in range(2)] == [7.0, 7.0]
    assert float(numbers(variable)) == 3.0


def test_gradients_where_a_number_depends_on_a_variable_and_where_not():
    x = keras.Variable(np.float32([1, 2]))
    frozen = keras.Variable(np.float32([3, 4]), trainable=False)
    other = keras.Variable(np.float32([5]))

    def slopes(factor):
        return current.gradients(
            lambda: keras.ops.sum(factor * x * x * frozen), [x, frozen, other]
        )

    found = current.compiled(slopes, [x, frozen, other])(np.float32(10))
    expected = [[60, 160], [10, 40], [0]]
    for value, correct in zip(found, expected, strict=True):
        np.testing.assert_allclose(numbers(value), correct)


def test_gradients_take_what_was_assigned_before():
    x, factor = keras.Variable(np.float32(2)), keras.Variable(np.float32(1))

    def slope():
        factor.assign(7.0)
        return current.gradients(lambda: factor * x * x, [x])

    assert float(numbers(current.compiled(slope, [x, factor])()[0])) == 28.0


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(ImportError, match=r"tensorflow, jax or torch.*'openvino'"):
        importlib.reload(current)


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="has strategies to check"
)
def test_without_strategies_nothing_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    current.check_strategy(model)
    current.check_same_strategy("teacher", model, model)
    with current.strategy_scope(model):
        assert not current.has_several_workers(model)
