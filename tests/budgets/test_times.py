"""Times at widths: exact where measured, between them as kernels have their tiles."""

import math

import numpy as np
import pytest

from pgmpf_tf.budgets.times import Point, Times

OUTS = [16, 17, 32, 33, 48, 49, 64, 96, 97, 128]
INS = [8, 16, 64]


def stairs(step):
    def time(into, out):
        return 0.1 + into * 0.01 * math.ceil(out / step)

    return time


def times(function, outs=OUTS):
    return Times(tuple(Point(i, o, function(i, o)) for i in INS for o in outs))


@pytest.mark.parametrize("step", [1, 8, 16, 32])
def test_exact_where_it_was_measured(step):
    table = times(stairs(step))
    for point in table.points:
        assert table.at(point.width_in, point.width_out) == pytest.approx(
            point.milliseconds, rel=1e-12
        )


@pytest.mark.parametrize("step", [16, 32])
def test_stairs_between_what_was_measured_are_stairs(step):
    table = times(stairs(step))
    assert table.stairs.step == step
    for out in range(1, 129):
        # Linear in the input's channels, so that what is between them is exact, too.
        assert table.at(40, out) == pytest.approx(stairs(step)(40, out), rel=1e-9)


EDGES = sorted(
    {top + more for top in (32, 64, 128, 192) for more in (0, 1, 9, 16, 17)} | {256}
)


def masked(out):
    """Tiles of 16, of which the last costs three if it is not full."""
    return math.ceil(out / 16) + 2 * (out % 16 != 0)


def in_pairs(out):
    """Tiles of 16, where half a pair costs as much as a pair if it is not full."""
    return math.ceil(out / 16) + (out % 32 != 0) + 0.5 * (0 < out % 32 < 16)


@pytest.mark.parametrize(("kernel", "kinds"), [(masked, 2), (in_pairs, 4)])
def test_widths_of_a_kind_tell_each_other(kernel, kinds):
    table = times(lambda into, out: 0.1 + 0.01 * into * kernel(out), EDGES)
    assert (table.stairs.step, table.stairs.kinds) == (16, kinds)
    for out in range(33, 257):
        # Linear in the input's channels and within a kind, so that it is exact.
        expected = 0.1 + 0.4 * kernel(out)
        assert table.at(40, out) == pytest.approx(expected, rel=1e-9), out


def test_a_kind_of_which_one_width_was_measured_is_told_by_all():
    table = times(lambda into, out: masked(out), [16, 32, 48, 64, 80, 96, 112, 128, 65])
    assert table.at(8, 96) == 6.0
    for out in range(66, 80):
        assert table.at(8, out) == 7.0
    for out in (97, 113):
        assert 6.0 <= table.at(8, out) <= 8.0


def test_what_is_inside_tells_of_itself_only():
    def time(into, out, heads):
        return heads * (1.0 + 0.1 * into + 0.2 * out)

    points = [
        Point(into, out, time(into, out, heads), heads)
        for heads in (1, 2, 4)
        for into in (8, 32)
        for out in (8, 16, 32)
    ]
    table = Times(tuple(points))
    for heads in (1, 2, 3, 4):
        found = table.at(20, 20, inside=heads)
        assert found == pytest.approx(time(20, 20, heads), rel=1e-9)


def test_a_slope_is_no_staircase():
    table = times(lambda into, out: 0.1 + 0.02 * into + 0.01 * out)
    assert table.stairs.step == 1
    assert table.at(32, 57) == pytest.approx(0.1 + 0.64 + 0.57, rel=1e-9)


@pytest.mark.parametrize("step", [1, 16, 32])
def test_noise_makes_no_stairs_and_hides_none(step):
    for seed in range(5):
        noise = np.random.default_rng(seed)

        def noisy(into, out, noise=noise):
            return stairs(step)(into, out) * noise.uniform(0.97, 1.03)

        table = times(noisy, EDGES)
        outs = np.arange(32, 257)
        found = np.array([table.at(40, out) for out in outs])
        expected = np.array([stairs(step)(40, out) for out in outs])
        # As far as the noise goes, on average; a slope for stairs would be 8 % off.
        assert np.mean(np.abs(found / expected - 1)) < 0.03


def test_one_width_in_is_enough():
    table = Times(tuple(Point(3, out, stairs(16)(3, out)) for out in OUTS))
    assert table.at(3, 20) == pytest.approx(stairs(16)(3, 20), rel=1e-12)
    assert table.at(2, 20) == table.at(3, 20)


def test_one_width_in_is_told_by_its_neighbor_what_others_take():
    def time(into, out):
        return into * (2.0 + out)

    pairs = [(8, 16), (40, 16), (8, 32), (40, 64), (80, 64)]
    table = Times(tuple(Point(i, o, time(i, o)) for i, o in pairs))
    # The nearest one that was measured at several has five times as much at 40 as at 8.
    assert table.at(40, 32) == pytest.approx(time(40, 32))
    assert table.at(40, 24) == pytest.approx(time(40, 24))
    assert table.at(8, 32) == time(8, 32)


def test_beyond_the_ends_it_goes_on_and_is_never_negative():
    table = times(lambda into, out: 0.001 * out, outs=[16, 32, 64])
    assert table.at(8, 128) == pytest.approx(0.128, rel=1e-9)
    assert times(lambda i, o: o - 15.9, outs=[16, 32]).at(8, 1) == 0.0


def test_the_noise_of_neighbors_does_not_tell_how_it_goes_on():
    # The two ends of a stair, 64 and 65 and 95 and 96: one of each a bit too fast.
    near = {64: 1.0, 65: 0.97, 95: 0.97, 96: 1.0}
    table = Times(tuple(Point(i, 32, 0.01 * i * noise) for i, noise in near.items()))
    for into in (32, 48, 112, 128):
        assert table.at(into, 32) == pytest.approx(0.01 * into, rel=0.1)
