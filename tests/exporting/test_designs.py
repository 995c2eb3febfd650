"""Which widths are measured: at the edges of tiles, of every kind, and not too many."""

import pytest

from pgmpf_tf.budgets.segments import Segment
from pgmpf_tf.exporting import designs


@pytest.mark.parametrize("count", [1, 2, 3, 8, 12, 17, 64, 100, 2048])
def test_widths_are_at_the_edges_and_never_too_many(count):
    levels = designs.levels_of(count)
    assert levels[-1] == count
    assert levels[0] >= (1 if count < 12 else 2)
    assert len(levels) <= designs.LEVELS
    assert len(levels) >= min(count, 4)
    edges = [n for n in levels if n % 16 == 0 and n + 1 in levels]
    assert edges or count < 32
    kinds = {(n % 32 >= 16, n % 16 != 0) for n in levels}
    assert len(kinds) == 4 or count < 96


def test_a_few_of_each_number_of_channels_inside_are_timed():
    segments = [
        Segment("a", into, out, inside)
        for inside in range(1, 13)
        for into in range(8, 80, 8)
        for out in range(8, 176, 8)
    ]
    found = list(designs.thinned(segments, input_step=1))
    insides = {segment.inside for segment in found}
    assert {1, 12} < insides
    assert len(insides) == 4
    for inside in insides:
        ends = [(s.width_in, s.width_out) for s in found if s.inside == inside]
        assert {(8, 8), (72, 8), (8, 168), (72, 168)} < set(ends)
        assert len(ends) == 3 * designs.LEVELS


def test_widths_that_other_couplings_have_do_not_push_out_those_at_the_edges():
    levels = designs.levels_of(128)
    segments = [Segment("a", 8, out) for out in [*levels, *range(1, 128, 3)]]
    found = {segment.width_out for segment in designs.thinned(segments, input_step=1)}
    assert set(levels) <= found
    assert len(found) <= designs.LEVELS


def test_where_few_widths_go_out_more_go_in():
    segments = [Segment("a", into, 10) for into in designs.levels_of(1280)]
    assert list(designs.thinned(segments, input_step=1)) == segments
