"""The random draws: the same everywhere, and as good as random."""

import keras
import numpy as np
import pytest

from pgmpf_tf.backends.current import compiled
from pgmpf_tf.training.draws import uniform

COUNT = 2000


def slow_mixed(word):
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word = (word ^ (word >> shift)) * factor % 2**32
    return word ^ (word >> 16)


def slow_uniform(seed, step, place):
    """The draw of one place, in Python's own integers."""
    key = slow_mixed((seed * 0xC2B2AE35 + step * 0x85EBCA6B) % 2**32)
    return (slow_mixed((key + place * 0x9E3779B9) % 2**32) >> 8) / 2**24


def draws(seed, step, count=COUNT):
    return keras.ops.convert_to_numpy(uniform(seed, step, count))


@pytest.mark.parametrize(
    ("seed", "step"), [(0, 0), (5, 17), (2**31 - 1, 3), (11, 2**31 - 1)]
)
def test_bits_are_those_of_pythons_integers(seed, step):
    # As variables hold them: int32 the seed, the optimizer's own type the step.
    iterations = keras.optimizers.SGD().iterations
    iterations.assign(step)
    found = draws(np.int32(seed), iterations, 50)
    assert found.dtype == np.float32
    assert found.tolist() == [slow_uniform(seed, step, place) for place in range(50)]


def test_compiled_or_not_the_bits_are_the_same():
    run = compiled(lambda seed, step: uniform(seed, step, COUNT), [])
    for step in (0, 1, 1000):
        found = run(np.int32(9), np.int32(step))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), draws(9, step))


def test_draws_are_uniform():
    sample = np.stack([draws(seed, step) for seed in range(5) for step in range(40)])
    assert sample.min() >= 0.0
    assert sample.max() < 1.0
    observed, _ = np.histogram(sample, 100, (0, 1))
    expected = sample.size / 100
    # Chi-square with 99 degrees of freedom: mean 99, standard deviation 14.
    assert 99 - 4 * 14 < (np.square(observed - expected) / expected).sum() < 99 + 4 * 14
    # Every one of the 24 bits is set in half of the draws.
    bits = (np.uint32(sample * 2**24)[..., None] >> np.arange(24)) & 1
    assert np.abs(bits.mean((0, 1)) - 0.5).max() < 5 * 0.5 / np.sqrt(sample.size)


def test_neighbors_have_nothing_in_common():
    sample = np.stack(
        [[draws(seed, step) for step in range(40)] for seed in range(5)]
    ).astype(float)
    centered = (sample - 0.5) * np.sqrt(12)
    for axis in range(3):
        for lag in (1, 2):
            ahead = np.roll(centered, lag, axis)
            bound = 5 / np.sqrt(centered.size)
            assert abs((centered * ahead).mean()) < bound, (axis, lag)


def test_no_filter_is_dropped_more_often_than_others():
    dropped = np.stack([draws(3, step, 64) < 0.5 for step in range(1000)])
    # Of 64 binomial counts none is further from the mean than 4.5 deviations.
    assert np.abs(dropped.sum(0) - 500).max() < 4.5 * np.sqrt(250)
    assert np.abs(dropped.sum(1) - 32).max() < 6 * np.sqrt(16)


def test_other_seeds_and_steps_give_other_draws():
    rows = [draws(seed, step, 50) for seed in range(20) for step in range(20)]
    assert len(np.unique(rows, axis=0)) == len(rows)
