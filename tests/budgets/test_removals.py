"""The strategy "sensitivity" is a knapsack: the least harm for what is saved."""

import itertools

import numpy as np
import pytest

from pgmpf_tf.budgets.removals import _slopes


def test_slopes_are_those_of_the_convex_curve_below():
    # The second step alone is steep, together with the third it is not.
    assert _slopes([1.0, 5.0, 6.0, 16.0], [1.0, 2.0, 4.0, 5.0]) == pytest.approx(
        [1.0, 5 / 3, 5 / 3, 10.0]
    )


def test_a_step_that_saves_nothing_comes_last(recwarn):
    assert _slopes([1.0, 2.0], [1.0, 1.0])[1] > 1e300
    assert _slopes([1.0, 90.0], [1.0, 1.0])[1] == np.inf
    assert not recwarn.list


@pytest.mark.parametrize("seed", range(5))
def test_no_other_choice_saves_as_much_with_less_harm(seed):
    generator = np.random.default_rng(seed)
    harms, savings = np.cumsum(generator.exponential(size=(2, 3, 4)), axis=2)
    slopes = [_slopes(*pair) for pair in zip(harms, savings, strict=True)]
    padded = [np.pad(array, ((0, 0), (1, 0))) for array in (harms, savings)]

    def totals(steps):
        return [array[range(3), steps].sum() for array in padded]

    every = np.array([totals(steps) for steps in itertools.product(range(5), repeat=3)])
    for slope in np.unique(slopes):
        harm, saved = totals([int(np.sum(np.array(s) <= slope)) for s in slopes])
        rivals = every[every[:, 1] >= saved - 1e-9, 0]
        assert harm <= rivals.min() + 1e-9
