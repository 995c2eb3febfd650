"""Arrays that say something about every channel of a tensor.

A *slot array* has the rank of its tensor. Along each axis it has either the tensor's
size or 1, which means "the same all along this axis": the channels of a
convolution's output are `(1, 1, 1, channels)`, and stay so small wherever only
spatial axes move. The batch axis always has size 1. The arrays hold unit labels, known
constant values, or what is kept, so that one piece of code moves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


class NoRule(Exception):
    """An operation is used in a way its rule does not cover: it becomes a barrier."""


def expand(array: np.ndarray, axis: int, size: int | None) -> np.ndarray:
    """The same array, spelled out along one axis.

    Raises:
        NoRule: the tensor's size along the axis is not known.
    """
    if array.shape[axis] == size:
        return array
    if size is None:
        raise NoRule("its channel axis has no fixed size")
    return np.repeat(array, size, axis=axis)


def hull(kept: np.ndarray) -> np.ndarray:
    """The smallest choice of whole slices, axis by axis, that contains `kept`."""
    if kept.size == max(kept.shape, default=1):
        return kept
    result = np.ones_like(kept)
    for axis in range(kept.ndim):
        others = tuple(a for a in range(kept.ndim) if a != axis)
        result &= kept.any(axis=others, keepdims=True)
    return result


def along(kept: np.ndarray, axis: int) -> np.ndarray:
    """What a whole-slice choice keeps along one axis: shape `(size,)`."""
    others = tuple(a for a in range(kept.ndim) if a != axis % kept.ndim)
    return kept.any(axis=others)


def as_axis(vector: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """A vector as a slot array that varies along one axis."""
    shape = [1] * rank
    shape[axis] = -1
    return np.reshape(vector, shape)


def reshape(
    array: np.ndarray,
    source: Sequence[int | None],
    target: Sequence[int | None],
) -> np.ndarray:
    """Move a slot array the way a reshape that keeps the batch axis moves the data.

    The two shapes are cut, from the right, into the smallest blocks of axes with equal
    products. A block in which nothing varies stays of size 1; the others are spelled
    out and reshaped.

    Args:
        array: slot array of the input.
        source: the tensor's shape before, batch first.
        target: the tensor's shape after.

    Raises:
        NoRule: the batch axis is mixed with others, or something varies along an axis
            of unknown size.
    """
    blocks = _blocks(tuple(source[1:]), tuple(target[1:]))
    shape_in, shape_out = [array.shape[0]], [1]
    for ins, outs in blocks:
        sizes = [source[1 + a] for a in ins]
        varies = any(array.shape[1 + a] != 1 for a in ins)
        for a, size in zip(ins, sizes, strict=True):
            if varies:
                array = expand(array, 1 + a, size)
        shape_in += [array.shape[1 + a] for a in ins]
        shape_out += [target[1 + a] if varies else 1 for a in outs]
    return np.reshape(array, shape_out)


def _blocks(source, target):
    """Ranges of axes of the two shapes that have equal products, left to right."""
    i, j = len(source), len(target)
    blocks = []
    while i > 0 or j > 0:
        end_i, end_j = i, j
        i, j = max(i - 1, 0), max(j - 1, 0)
        while True:
            ins, outs = source[i:end_i], target[j:end_j]
            if None in ins or None in outs:
                i = j = 0
                break
            a, b = math.prod(ins), math.prod(outs)
            if a == b:
                break
            if (a < b and i == 0) or (b < a and j == 0):
                raise NoRule("it mixes the batch axis with others")
            i, j = (i - 1, j) if a < b else (i, j - 1)
        blocks.insert(0, (range(i, end_i), range(j, end_j)))
    return blocks
