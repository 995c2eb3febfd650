import dataclasses

import pytest

from experiments.studies import defaults

TINY = defaults.Source("digits", 96, 50, 50, 8)
CELL = defaults.Cell("digits", 3, 0.5, "constant", "sgd", "trained")


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setitem(defaults.SOURCES, "digits", TINY)
    monkeypatch.setattr(defaults, "cells", lambda: [CELL])
    monkeypatch.setattr(defaults, "DENSE_EPOCHS", 1)
    defaults.load.cache_clear()
    yield tmp_path
    defaults.load.cache_clear()


def test_what_is_done_is_not_done_again(tiny, monkeypatch):
    methods = {"hard": 2}
    records = defaults.measure(tiny, methods, None)
    done = [(record["method"], record["seed"]) for record in records]
    assert done == [("hard", 0), ("hard", 1)]
    for record in records:
        assert record["rates"][-1] == 0.5
        assert len(record["rates"]) == 3
        assert 0 <= record["test"] <= 1
        assert record["dense"] > 0
    monkeypatch.setattr(defaults, "run", None)
    assert defaults.measure(tiny, methods, None) == records
    assert defaults.measure(tiny / "elsewhere", methods, None, records) == records


def test_combinations_can_be_chosen(tiny, monkeypatch):
    other = dataclasses.replace(CELL, rate=0.3)
    monkeypatch.setattr(defaults, "cells", lambda: [CELL, other])
    monkeypatch.setattr(defaults, "run", lambda cell, *_: dataclasses.asdict(cell))
    (chosen,) = defaults.measure(tiny, {"hard": 1}, None, only=[other.name])
    assert chosen["rate"] == 0.3
    assert len(defaults.measure(tiny, {"hard": 1}, None)) == 2


def record(method, seed, test, **changes):
    cell = dataclasses.asdict(CELL)
    return {**cell, "method": method, "seed": seed, "test": test, **changes}


def test_the_table_has_what_was_run():
    tests = {3: (0.5, 0.6), 10: (0.5, 0.45)}
    records = [
        record(method, 0, test, epochs=epochs)
        for epochs, pair in tests.items()
        for method, test in zip(("hard", "pgmpf"), pair, strict=True)
    ]
    text = defaults.markdown(records)
    assert "| pgmpf | 2 | 1 | 52.50 | +2.50 ± 7.50 | -5.00 |" in text
    assert "| epochs 10 | -5.00 |" in text
    assert "epochs 30" not in text


def test_variants_are_held_against_the_default_after_recalibrating():
    def run(method, seed, recalibrated):
        return record(method, seed, 0.5, recalibrated=recalibrated)

    default = [run("pgmpf", 0, 0.6), run("pgmpf", 1, 0.1)]
    text = defaults.markdown([*default, run("fade", 0, 0.57), run("hard", 0, 0.9)])
    assert text.splitlines()[-1] == "| fade | 1 | 1 | -3.00 | -3.00 |"
    assert "after `recalibrate`" not in defaults.markdown(default)
