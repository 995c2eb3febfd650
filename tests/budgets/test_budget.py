import json

import numpy as np
import pytest

from pgmpf_tf import Budget


class Drops:
    groups, rates, drop = ("a",), (0.5,), np.array([[0.1]])


@pytest.mark.parametrize(
    "budget",
    [
        Budget(macs=0.5),
        Budget(
            params=0.2, latency=0.3, strategy="global", min_keep={"a*": 2, "*": 0.1}
        ),
        Budget(macs=0.5, min_keep=0.25, rates={"stem": 0.0}),
    ],
)
def test_survives_json(budget):
    assert Budget.from_config(json.loads(json.dumps(budget.get_config()))) == budget


def test_numbers_of_numpy_are_numbers():
    budget = Budget(macs=np.float32(0.5), min_keep=np.int64(2))
    assert budget == Budget(macs=0.5, min_keep=2)
    assert json.dumps(budget.get_config())


def test_a_measurement_survives_json():
    budget = Budget(macs=0.5, strategy="sensitivity", sensitivity=Drops())
    table = Budget.from_config(json.loads(json.dumps(budget.get_config()))).sensitivity
    assert (table.groups, table.rates) == (Drops.groups, Drops.rates)
    np.testing.assert_array_equal(table.drop, Drops.drop)


def test_the_first_pattern_that_matches_counts():
    budget = Budget(macs=0.5, min_keep={"stem": 7, "b*": 0.3})
    assert budget.kept_at_least(("stem", "bn"), 16) == 7
    assert budget.kept_at_least(("b1",), 16) == 5
    assert budget.kept_at_least(("stem",), 4) == 4
    assert budget.kept_at_least(("head",), 16) == 1


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {}, "at least one of `macs`, `params` and `latency`"),
        (ValueError, {"macs": 0.0}, r"`macs` must be a fraction in \(0, 1\)"),
        (ValueError, {"params": 1.0}, r"`params` must be a fraction in \(0, 1\)"),
        (ValueError, {"latency": 5}, r"`latency` must be a fraction in \(0, 1\)"),
        (TypeError, {"macs": "half"}, "`macs` must be a fraction"),
        (TypeError, {"macs": True}, "`macs` must be a fraction"),
        (ValueError, {"macs": 0.5, "strategy": "best"}, "'uniform', 'global'"),
        (
            ValueError,
            {"macs": 0.5, "strategy": "sensitivity"},
            "`sensitivity` must",
        ),
        (
            ValueError,
            {"macs": 0.5, "sensitivity": Drops()},
            "`sensitivity` must",
        ),
        (
            TypeError,
            {"macs": 0.5, "strategy": "sensitivity", "sensitivity": {"a": 1}},
            "what `pgmpf_tf.sensitivity` returned",
        ),
        (ValueError, {"macs": 0.5, "min_keep": 0}, "`min_keep` must be an int"),
        (ValueError, {"macs": 0.5, "min_keep": 1.5}, "`min_keep` must be an int"),
        (TypeError, {"macs": 0.5, "min_keep": {"a": "x"}}, r"`min_keep\['a'\]`"),
        (ValueError, {"macs": 0.5, "rates": {"a": 1.0}}, r"`rates\['a'\]` must"),
        (TypeError, {"macs": 0.5, "rates": None}, "`rates` must be a mapping"),
        (TypeError, {"macs": 0.5, "rates": 0.5}, "`rates` must be a mapping"),
        (TypeError, {"macs": 0.5, "rates": {1: 0.5}}, "`rates` must be a mapping"),
        (ValueError, {"macs": 0.5, "min_keep": {}}, "`min_keep` must be a mapping"),
    ],
)
def test_bad_input_is_refused(error, arguments, message):
    with pytest.raises(error, match=message):
        Budget(**arguments)
