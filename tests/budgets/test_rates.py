import keras
import numpy as np
import pytest

from pgmpf_tf.budgets.rates import check_rate, check_removes, group_rates
from pgmpf_tf.channels.units import Group, Member


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
    assert group_rates(GROUPS, 0.25) == (0.25, 0.25, 0.25)


def test_the_first_pattern_that_matches_counts():
    rate = {"block1_conv": 0.5, "block1_*": 0.25}
    assert group_rates(GROUPS, rate) == (0.25, 0.5, 0.0)


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (1.0, ValueError, r"`rate` .* in \[0, 1\)\. Received: rate=1.0"),
        (-0.1, ValueError, r"`rate` .* in \[0, 1\)\. Received: rate=-0.1"),
        ({"head": 1.5}, ValueError, r"`rate\['head'\]` .* in \[0, 1\)"),
        ({}, ValueError, r"`rate` must be a mapping .*one entry.*rate=\{\}"),
        ({3: 0.5}, TypeError, r"`rate` must be a mapping .*strings.*\{3: 0.5\}"),
        ({"head": "a"}, TypeError, r"`rate\['head'\]` .*fraction of filters"),
        ("0.5", TypeError, "`rate` must be the fraction of filters to remove"),
        (None, TypeError, "`rate` must be the fraction of filters to remove"),
        (True, TypeError, "`rate` must be the fraction of filters to remove"),
    ],
)
def test_what_is_no_rate_is_refused(rate, error, message):
    with pytest.raises(error, match=message):
        check_rate("rate", rate)


def test_rates_become_numbers_of_python():
    assert type(check_rate("rate", np.float32(0.5))) is float
    rates = check_rate("rate", {"head": np.int64(0)})
    assert rates == {"head": 0.0}
    assert type(rates["head"]) is float


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match=r"`rate`.*block1_add.*head, stem.*'tail'"):
        group_rates(GROUPS, {"head": 0.5, "tail": 0.5})


@pytest.mark.parametrize(
    ("rates", "round_to", "argument"),
    [
        ((0.5, 0.5, 0.0), 2, "round_to"),
        ((0.4, 0.0, 0.0), 1, "rate"),
        ((0.4, 0.4, 0.4), 2, "rate"),
        ((0.5, 0.0, 0.0), 1, None),
        ((0.0, 0.0, 0.0), 9, None),
    ],
)
def test_rates_that_remove_nothing_are_refused(rates, round_to, argument):
    if argument is None:
        check_removes(GROUPS, rates, round_to)
    else:
        with pytest.raises(ValueError, match=f"`{argument}` must be .*Received"):
            check_removes(GROUPS, rates, round_to)
