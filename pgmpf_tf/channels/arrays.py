"""Arrays that say something about every channel of a tensor.

A *channel array* has the rank of its tensor. Along each axis it has either the tensor's
size or 1, which means "the same all along this axis": the channels of a
convolution's output are `(1, 1, 1, channels)`, and stay so small wherever only
spatial axes move. The batch axis always has size 1. The entries are unit labels, known
constant values, or whether something is kept, so that one piece of code moves all of
them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]


class NoRule(Exception):
    """An operation is used in a way its rule does not cover: it becomes a barrier."""


def expand(array: Array, axis: int, size: int | None) -> Array:
    """The same array, spelled out along one axis.

    Raises:
        NoRule: the tensor's size along the axis is not known.
    """
    if array.shape[axis] == size:
        return array
    if size is None:
        raise NoRule("its channel axis has no fixed size")
    return np.repeat(array, size, axis=axis)


def whole_slices(kept: Array) -> Array:
    """The smallest choice of whole slices, axis by axis, that contains `kept`."""
    if kept.size == max(kept.shape, default=1):
        return kept
    result = np.ones_like(kept)
    for axis in range(kept.ndim):
        others = tuple(a for a in range(kept.ndim) if a != axis)
        result &= kept.any(axis=others, keepdims=True)
    return result


def kept_along(kept: Array, axis: int) -> Array:
    """What a choice of whole slices keeps along one axis: shape `(size,)`."""
    return any_along(kept, *(a for a in range(kept.ndim) if a != axis % kept.ndim))


def any_along(array: Array, *axes: int) -> Array:
    """Whether anything is true along some axes, which vanish."""
    return np.asarray(array.any(axis=axes))


def level(kept: Sequence[Array]) -> list[Array]:
    """Choices along axes of one size, each with more until all are equally many."""
    widest = max(kept, key=lambda vector: int(vector.sum()))
    result = []
    for vector in kept:
        # What the widest has is there already, if both are the same stream.
        order = np.argsort(np.where(vector, 2, ~widest), kind="stable")
        more = vector.copy()
        more[order[: int(widest.sum() - vector.sum())]] = True
        result.append(more)
    return result


def on_axis(vector: Array, axis: int, rank: int) -> Array:
    """A vector as a channel array that varies along one axis."""
    shape = [1] * rank
    shape[axis] = -1
    return np.reshape(vector, shape)


def everything(rank: int) -> Array:
    """The choice of all channels of a tensor."""
    return np.ones((1,) * rank, bool)


def unknown(rank: int) -> Array:
    """Values of a tensor of which nothing is known."""
    return np.full((1,) * rank, np.nan)


def reshape(array: Array, source: Sequence[int | None], target: Shape) -> Array:
    """Move a channel array as a reshape moves the data.

    The two shapes are cut, from the right, into the smallest blocks of axes with equal
    products. A block in which nothing varies stays of size 1; the others are spelled
    out and reshaped. Nothing may vary along axes that are mixed with the batch.

    Args:
        array: channel array of the input.
        source: the tensor's shape before, batch first.
        target: the tensor's shape after.

    Raises:
        NoRule: the batch axis is mixed with channels, or something varies along an
            axis of unknown size.
    """
    blocks, (before, after) = _blocks(tuple(source[1:]), tuple(target[1:]))
    if any(size != 1 for size in array.shape[1 : 1 + before]):
        raise NoRule("it mixes the batch axis with channels")
    shape_in, shape_out = [array.shape[0]] + [1] * before, [1] * (1 + after)
    for ins, outs in blocks:
        sizes = [source[1 + a] for a in ins]
        varies = any(array.shape[1 + a] != 1 for a in ins)
        for a, size in zip(ins, sizes, strict=True):
            if varies:
                array = expand(array, 1 + a, size)
        shape_in += [array.shape[1 + a] for a in ins]
        shape_out += [_known(target[1 + a]) if varies else 1 for a in outs]
    return np.reshape(array, shape_out)


def _blocks(
    source: Shape, target: Shape
) -> tuple[list[tuple[range, range]], tuple[int, int]]:
    """Ranges of axes of the two shapes that have equal products, left to right.

    Returns:
        The ranges, and how many axes at the left of each shape are mixed with the
        batch.
    """
    i, j = len(source), len(target)
    blocks: list[tuple[range, range]] = []
    while i > 0 or j > 0:
        end_i, end_j = i, j
        i, j = max(i - 1, 0), max(j - 1, 0)
        while True:
            ins, outs = source[i:end_i], target[j:end_j]
            if None in ins or None in outs:
                i = j = 0
                break
            a, b = _product(ins), _product(outs)
            if a == b:
                break
            if (a < b and i == 0) or (b < a and j == 0):
                return blocks, (end_i, end_j)
            i, j = (i - 1, j) if a < b else (i, j - 1)
        blocks.insert(0, (range(i, end_i), range(j, end_j)))
    return blocks, (0, 0)


def _known(size: int | None) -> int:
    if size is None:
        raise NoRule("its channel axis has no fixed size")
    return size


def _product(sizes: Shape) -> int:
    return math.prod(size for size in sizes if size is not None)
