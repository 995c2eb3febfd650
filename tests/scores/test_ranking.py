from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pgmpf_tf.scores.ranking import Rounding, keep_mask, kept_count


@given(st.integers(1, 2000), st.integers(0, 99))
def test_the_floor_of_the_exact_product_is_removed(count, percent):
    exact = Fraction(percent, 100) * count
    assert kept_count(count, percent / 100) == count - exact.__floor__()


@given(st.integers(1, 300), st.floats(0, 0.999), st.integers(1, 70))
def test_the_number_kept_is_rounded_up(count, rate, round_to):
    kept = kept_count(count, rate, round_to)
    plain = kept_count(count, rate)
    assert plain <= kept <= count
    assert kept == count or (kept % round_to == 0 and kept < plain + round_to)
    assert kept >= 1


@given(
    st.integers(1, 300),
    st.floats(0, 0.999),
    st.integers(1, 70),
    st.sampled_from(["up", "down", "nearest"]),
)
def test_a_rounding_takes_the_multiple_that_it_names(count, rate, multiple, direction):
    kept = kept_count(count, rate, Rounding(multiple, direction))
    plain = kept_count(count, rate)
    if plain == count:
        assert kept == count
        return
    multiples = range(multiple, count + multiple, multiple)
    wanted = {
        "up": [m for m in multiples if m >= plain],
        "down": [m for m in multiples if m <= plain][-1:],
        "nearest": sorted(multiples, key=lambda m: (abs(m - plain), -m)),
    }[direction]
    # Never none: what is below the first multiple keeps that.
    assert kept == min(count, (wanted or [multiple])[0])


def test_an_int_rounds_up():
    assert kept_count(64, 0.5, Rounding(24)) == kept_count(64, 0.5, 24) == 48
    assert kept_count(64, 0.5, Rounding(24, "down")) == 24
    assert kept_count(64, 0.5, Rounding(24, "nearest")) == 24
    assert kept_count(64, 0.45, Rounding(24, "nearest")) == 48


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=30),
    st.floats(0, 0.999),
)
def test_the_lowest_go_and_ties_go_by_index(scores, rate):
    mask = keep_mask(np.array(scores, float), rate)
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    removed = len(scores) - kept_count(len(scores), rate)
    assert set(np.flatnonzero(mask == 0)) == set(order[:removed])
    assert set(np.unique(mask)) <= {0.0, 1.0}
