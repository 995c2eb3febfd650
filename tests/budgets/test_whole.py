"""Whole networks take what their parts, weights and insertions tell."""

import numpy as np
import pytest

from pgmpf_tf.budgets.segments import Segment
from pgmpf_tf.budgets.whole import Whole, whole_of

KEPT = (1.0, 0.8, 0.6, 0.4, 0.25)


def segments(entries, insertions):
    inserted = [Segment("gather", 8, 8)] * insertions
    return [Segment("a", 8, 8, steps=("a call",), entries=entries), *inserted]


def networks(time):
    """Widths of one network, with and without insertions."""
    found = []
    for kept in KEPT:
        for insertions in (0, 20):
            sizes = 2.0 * kept**1.5 + 0.002 * insertions, 4e6 * kept**2, insertions
            found.append(Whole(sizes[0], time(*sizes), *sizes[1:]))
    return tuple(found)


def test_what_nobody_measured_takes_what_its_parts_take():
    found = whole_of(segments(5, 2), 3.0, ())
    assert found == Whole(3.0, 3.0, 5, 2)


@pytest.mark.parametrize(
    ("costs", "cached"),
    [
        ((1, 2e-7, 3e-3), 3e5),
        ((1.1, 0, 3e-3), 0),
        ((1, 2e-7, 0), 1e6),
        ((0.9, 0, 0), 0),
    ],
)
def test_weights_and_insertions_are_found_out(costs, cached):
    def time(parts, entries, insertions):
        return float(np.dot(costs, (parts, max(0, entries - cached), insertions)))

    known = networks(time)
    for sizes in ((1.5, 2_000_000, 7), (0.3, 100_000, 30), (2.0, 4_000_000, 0)):
        found = whole_of(segments(*sizes[1:]), sizes[0], known)
        # What parts take alone is believed in a little, against exact measurements,
        # and the sizes of the cache that are tried are some.
        assert found.milliseconds == pytest.approx(time(*sizes), rel=0.02)


def test_nothing_makes_a_network_faster():
    # The more weights and insertions, the faster: that is noise.
    known = networks(lambda parts, entries, n: parts * 1.1 - 2e-8 * entries - 2e-4 * n)
    few, many = (
        whole_of(segments(entries, n), 1.0, known).milliseconds
        for entries, n in ((0, 0), (4_000_000, 20))
    )
    assert few <= many
    assert 0.9 < few < 1.2


def test_one_measurement_is_enough():
    # Half as long again as its parts; in which parts that take what they took alone are
    # believed a little, too.
    known = (Whole(2.0, 3.0),)
    assert 1.4 < whole_of(segments(0, 0), 1.0, known).milliseconds < 1.5
