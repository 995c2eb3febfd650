"""Budgets of latency, timed by a runtime whose time is exact: MACs and an overhead."""

import keras
import pytest

from pgmpf_tf import Budget, profile, wrap
from pgmpf_tf.budgets import runtimes

OVERHEAD = 2_000


class Counting:
    """A stopwatch that counts."""

    asked = 0

    def __init__(self, model, limit):
        self.left = limit
        self._first = profile(model).macs + OVERHEAD

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def ratio(self, model, name):
        assert self.left > 0
        self.left -= 1
        Counting.asked += 1
        return (profile(model).macs + OVERHEAD) / self._first


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(24, 3, activation="relu")(inputs)
    x = keras.layers.Conv2D(24, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(4)(x))


def test_the_least_pruned_network_that_is_fast_enough_is_found(monkeypatch):
    monkeypatch.setitem(runtimes._RUNTIMES, "tflite", Counting)
    model = network()
    rates = wrap(model, Budget(latency=0.4)).pruning_settings.found_rates
    assert Counting.asked <= 8
    whole = profile(model).macs + OVERHEAD
    # A layer loses one filter more or less: that is about 4 % of its MACs.
    conv = [1 - rate for rate in rates]
    macs = 24 * 27 * 36 * conv[0] + 24 * 24 * 9 * 16 * conv[0] * conv[1]
    assert 0.54 <= (macs + OVERHEAD) / whole <= 0.61


class SlowWhereNarrow(Counting):
    """Few channels take longer than some more, as kernels have it."""

    def ratio(self, model, name):
        narrow = min(weight.shape[-1] for weight in model.weights[:-2]) < 4
        return super().ratio(model, name) + narrow


def test_where_the_narrowest_network_is_slow_a_wider_one_is_fast_enough(monkeypatch):
    monkeypatch.setitem(runtimes._RUNTIMES, "tflite", SlowWhereNarrow)
    rates = wrap(network(), Budget(latency=0.4)).pruning_settings.found_rates
    assert min(round(24 * (1 - rate)) for rate in rates) >= 4
    with pytest.raises(ValueError, match=r"were timed, the fastest takes 8\d\.\d% of"):
        wrap(network(), Budget(latency=0.999))


def test_without_a_runtime_the_error_says_where_it_comes_from(monkeypatch):
    monkeypatch.setattr(runtimes, "_RUNTIMES", {})
    with pytest.raises(ValueError, match=r"`latency` .*`import pgmpf_tf\.exporting`"):
        wrap(network(), Budget(latency=0.4))


def test_the_library_brings_a_runtime():
    assert "tflite" in runtimes._RUNTIMES
    with pytest.raises(ValueError, match=r"Known runtimes: 'tflite'.*'abacus'"):
        runtimes.stopwatch("abacus", network(), 8)
