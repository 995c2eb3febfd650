"""Channel arrays move like the full arrays they stand for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmpf_tf.channels.arrays import (
    NoRule,
    expand,
    kept_along,
    on_axis,
    reshape,
    whole_slices,
)


@st.composite
def reshapes(draw):
    """Two shapes with equal products, and which axes of the first vary."""
    primes = draw(st.lists(st.sampled_from([1, 2, 2, 3, 5]), min_size=1, max_size=5))

    def grouped():
        shape, rest = [], list(primes)
        while rest:
            take = draw(st.integers(1, len(rest)))
            shape.append(math.prod(rest[:take]))
            rest = rest[take:]
        return tuple(shape)

    source = grouped()
    varies = draw(st.lists(st.booleans(), min_size=len(source), max_size=len(source)))
    return source, grouped(), varies


@given(reshapes())
def test_reshape_is_the_reshape_of_what_it_stands_for(case):
    source, target, varies = case
    shape = [n if v else 1 for n, v in zip(source, varies, strict=True)]
    small = np.arange(math.prod(shape)).reshape(1, *shape)
    full = np.broadcast_to(small, (1, *source))
    moved = reshape(small, (None, *source), (None, *target))
    assert all(n in (1, t) for n, t in zip(moved.shape[1:], target, strict=True))
    np.testing.assert_array_equal(
        np.broadcast_to(moved, (1, *target)), full.reshape(1, *target)
    )


def test_reshape_keeps_spatial_axes_small():
    labels = on_axis(np.arange(64), -1, 4)
    moved = reshape(labels, (None, 56, 56, 64), (None, 56 * 56, 2, 32))
    assert moved.shape == (1, 1, 2, 32)


def test_reshape_of_unknown_sizes():
    labels = on_axis(np.arange(8), -1, 4)
    moved = reshape(labels, (None, None, None, 8), (None, None, 8))
    assert moved.shape == (1, 1, 8)
    with pytest.raises(NoRule, match="fixed size"):
        reshape(labels, (None, None, None, 8), (None, None))


def test_reshape_refuses_the_batch_axis():
    with pytest.raises(NoRule, match="batch"):
        reshape(on_axis(np.arange(4), -1, 2), (None, 4), (None, 2))


@given(st.integers(0, 2**12 - 1))
def test_whole_slices_are_the_smallest_product(bits):
    mask = np.array([bool(bits >> i & 1) for i in range(12)]).reshape(1, 3, 4)
    found = whole_slices(mask)
    rows, columns = mask.any(axis=2)[0], mask.any(axis=1)[0]
    np.testing.assert_array_equal(found[0], np.outer(rows, columns))
    assert (found | ~mask).all()
    np.testing.assert_array_equal(whole_slices(found), found)
    np.testing.assert_array_equal(kept_along(found, 1), rows)


def test_expand_needs_a_size():
    with pytest.raises(NoRule):
        expand(np.ones((1, 1)), 1, None)
    assert expand(np.ones((1, 1)), 1, 5).shape == (1, 5)
