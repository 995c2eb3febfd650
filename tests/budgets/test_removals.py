"""The strategy "sensitivity" is a knapsack: the least harm for what is saved."""

import itertools

import numpy as np
import pytest

from pgmpf_tf.budgets.removals import _growth, _narrowed, _slopes

RATES = (0.1, 0.3, 0.5, 0.7, 0.9)


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


def test_growth_is_what_was_measured_where_that_rises_with_the_narrowing():
    narrowed = _narrowed(RATES)
    assert narrowed[2] == pytest.approx(np.log(2))
    growth = np.array([0.1, 0.1, 0.2, 0.5, 0.7])
    assert _growth(narrowed, growth * narrowed, most=9.0) == pytest.approx(growth)


def test_what_is_nearly_lost_is_taken_to_get_worse_as_before():
    narrowed = _narrowed(RATES)
    drop = np.array([0.5, 0.6, 0.61, 0.62, 0.63]) * 0.3
    # As long as the network is far from lost, that is what was measured, as it fits.
    fitted = (narrowed @ drop) / (narrowed @ narrowed)
    assert _growth(narrowed, drop, most=1.0) == pytest.approx(fitted)
    # Here a tenth has brought it half the way: what came after says nothing.
    assert _growth(narrowed, drop, most=0.25) == pytest.approx(drop[0] / narrowed[0])


def test_noise_neither_adds_up_nor_helps():
    narrowed = _narrowed(RATES)
    growth = _growth(narrowed, np.array([0.02, -0.02, 0.01, 0.0, 0.1]), most=1.0)
    assert (np.diff(growth) >= 0).all()
    assert (growth >= 0).all()
    assert growth[-1] * narrowed[-1] == pytest.approx(0.1)
    assert growth[0] * narrowed[0] < 0.001
