import collections
import itertools
import json

import pytest

from experiments.studies import grid

CELL = grid.Cell("digits", 3, 0.5, "constant", "sgd", "trained")


def record(method, seed, test, **changes):
    cell = {field: getattr(CELL, field) for field in grid.FACTORS}
    return {**cell, "method": method, "seed": seed, "test": test, **changes}


def test_any_two_values_of_two_factors_meet_equally_often():
    chosen = grid.cells()
    assert len(chosen) == len(set(chosen)) == 36
    for one, other in itertools.combinations(grid.FACTORS, 2):
        pairs = collections.Counter(
            (getattr(c, one), getattr(c, other)) for c in chosen
        )
        size = len(grid.FACTORS[one]) * len(grid.FACTORS[other])
        assert set(pairs.values()) == {36 // size}


def test_methods_are_held_against_hard_pruning_in_the_same_runs():
    records = [
        record("hard", 0, 0.5),
        record("hard", 1, 0.7),
        record("pgmpf", 0, 0.6),
        record("pgmpf", 1, 0.9),
        record("hard", 0, 0.5, epochs=10),
        record("pgmpf", 0, 0.45, epochs=10),
        record("pgmpf", 1, 0.0, epochs=10),  # without its counterpart
    ]
    found = grid.summary(records, "test", "hard")
    rows = {(r["method"], r["factor"], r["value"]): r for r in found}
    row = rows["pgmpf", "all", None]
    assert row["ahead"] == pytest.approx((0.15 - 0.05) / 2)
    assert row["worst"] == pytest.approx(-0.05)
    assert row["cells"] == 2
    assert rows["pgmpf", "epochs", 3]["ahead"] == pytest.approx(0.15)
    error = rows["pgmpf", "epochs", 3]["error"]  # of two seeds
    assert error == pytest.approx(0.05)
    assert rows["pgmpf", "epochs", 10]["error"] is None
    assert rows["hard", "all", None]["ahead"] == 0.0
    json.dumps(found)


def test_the_error_of_one_combination_is_over_its_seeds():
    values = {"hard": (0.5, 0.5, 0.5), "pgmpf": (0.5, 0.6, 0.7)}
    records = [
        record(method, seed, test)
        for method, tests in values.items()
        for seed, test in enumerate(tests)
    ]
    (row,) = (
        r
        for r in grid.summary(records, "test", "hard")
        if (r["method"], r["factor"]) == ("pgmpf", "all")
    )
    assert row["ahead"] == pytest.approx(0.1)
    assert row["error"] == pytest.approx(0.1 / 3**0.5)
