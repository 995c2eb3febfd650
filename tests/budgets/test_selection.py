from fractions import Fraction

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmpf_tf.budgets import selection
from pgmpf_tf.channels.units import Group, Member


@given(st.integers(1, 2000), st.integers(0, 99))
def test_the_floor_of_the_exact_product_is_removed(units, percent):
    exact = Fraction(percent, 100) * units
    assert selection.kept_count(units, percent / 100) == units - exact.__floor__()


@given(st.integers(1, 300), st.floats(0, 0.999), st.integers(1, 70))
def test_the_number_kept_is_rounded_up(units, rate, round_to):
    kept = selection.kept_count(units, rate, round_to)
    plain = selection.kept_count(units, rate)
    assert plain <= kept <= units
    assert kept == units or (kept % round_to == 0 and kept < plain + round_to)
    assert kept >= 1


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=30),
    st.floats(0, 0.999),
)
def test_the_lowest_go_and_ties_go_by_index(scores, rate):
    mask = selection.keep_mask(np.array(scores, float), rate)
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    removed = len(scores) - selection.kept_count(len(scores), rate)
    assert set(np.flatnonzero(mask == 0)) == set(order[:removed])
    assert set(np.unique(mask)) <= {0.0, 1.0}


def group(*layers):
    members = tuple(
        Member(
            keras.layers.Layer(name=name),
            keras.Variable(np.ones((1, 2))),
            1,
            "kernel",
            np.arange(2),
        )
        for name in layers
    )
    return Group(layers[0], np.arange(2), members)


GROUPS = (group("stem", "block1_add"), group("block1_conv"), group("head"))


def test_one_rate_for_all():
    assert selection.group_rates(GROUPS, 0.25) == (0.25, 0.25, 0.25)


def test_the_first_pattern_that_matches_counts():
    rate = {"block1_conv": 0.5, "block1_*": 0.25}
    assert selection.group_rates(GROUPS, rate) == (0.25, 0.5, 0.0)


@pytest.mark.parametrize(
    ("rate", "name"),
    [(1.0, "`rate`"), (-0.1, "`rate`"), ({"head": 1.5}, r"`rate\['head'\]`")],
)
def test_a_rate_out_of_range_is_refused(rate, name):
    with pytest.raises(ValueError, match=name + r" must lie in \[0, 1\)"):
        selection.group_rates(GROUPS, rate)


@pytest.mark.parametrize("rate", ["0.5", None, True, {"head": "a"}])
def test_a_rate_that_is_no_number_is_refused(rate):
    with pytest.raises(TypeError, match="fraction of filters to remove"):
        selection.group_rates(GROUPS, rate)


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match=r"'tail'.*block1_add.*head, stem"):
        selection.group_rates(GROUPS, {"head": 0.5, "tail": 0.5})
