"""Whole networks take what their parts, weights and insertions tell."""

import numpy as np
import pytest

from pgmpf_tf.budgets.segments import Segment
from pgmpf_tf.budgets.whole import Whole, whole_of

KEPT = (1.0, 0.8, 0.6, 0.4, 0.25)


def told(known, parts, entries, insertions, inserted):
    """What is told of a network with such parts."""
    own = Segment("a", 8, 8, steps=("a call",), entries=entries)
    segments = [own, *[Segment("gather", 8, 8)] * insertions]
    each = [inserted / insertions] * insertions if insertions else []
    return whole_of(segments, [parts - sum(each), *each], known)


def networks(time):
    """Widths of one network, with and without insertions, and what they take."""
    found = []
    for kept in KEPT:
        for insertions in (0, 20):
            inserted = insertions * 0.01 * kept
            parts = 2.0 * kept**1.5 + inserted
            sizes = parts, 4e6 * kept**2, insertions, inserted
            found.append(Whole(parts, time(*sizes), *sizes[1:]))
    return tuple(found)


def test_what_nobody_measured_takes_what_its_parts_take():
    found = told((), 3.0, 5, 2, 0.5)
    assert found == Whole(3.0, 3.0, 5, 2, 0.5)


@pytest.mark.parametrize(
    ("costs", "cached"),
    [
        ((1, 2e-7, 3e-3, 1, 0), 3e5),
        ((1.1, 0, 3e-3, 1.1, 0), 0),
        ((1, 2e-7, 0, 0.6, 0), 1e6),
        ((0.9, 0, 0, 0.9, 0), 0),
        ((1, 2e-7, 0, 1, 0.2), 1e6),
        ((1, 0, 0, 1, 0.2), 0),
    ],
)
def test_what_a_network_takes_beyond_its_parts_is_found_out(costs, cached):
    def time(parts, entries, insertions, inserted):
        missed = max(0, entries - cached)
        sizes = parts - inserted, missed, insertions, inserted, 1.0
        return float(np.dot(costs, sizes))

    known = networks(time)
    for sizes in (
        (1.5, 2_000_000, 7, 0.1),
        (0.5, 100_000, 20, 0.1),
        (2.0, 4_000_000, 0, 0.0),
    ):
        # What parts take alone is believed in a little, against exact measurements,
        # and the sizes of the cache that are tried are some.
        found = told(known, *sizes).milliseconds
        assert found == pytest.approx(time(*sizes), rel=0.02)


def test_nothing_makes_a_network_faster():
    # The more weights and insertions, the faster: that is noise.
    known = networks(
        lambda parts, entries, n, _: parts * 1.1 - 2e-8 * entries - 2e-4 * n
    )
    few, many = (
        told(known, 1.0, entries, n, 0.0).milliseconds
        for entries, n in ((0, 0), (4_000_000, 20))
    )
    assert few <= many
    assert 0.9 < few < 1.2


def test_one_measurement_is_enough():
    # Half as long again as its parts; in which parts that take what they took alone are
    # believed a little, too.
    known = (Whole(2.0, 3.0),)
    assert 1.4 < told(known, 1.0, 0, 0, 0.0).milliseconds < 1.5
