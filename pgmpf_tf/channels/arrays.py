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


def reshape(
    array: Array,
    source: Shape,
    target: Shape,
    batch: tuple[tuple[int, ...], tuple[int, ...]] = ((0,), (0,)),
) -> Array:
    """Move a channel array as a reshape moves the data.

    The two shapes are cut, from the right, into the smallest blocks of axes with equal
    products. A block in which nothing varies stays of size 1; the others are spelled
    out and reshaped. Nothing may vary along axes that are mixed with the batch.

    Args:
        array: channel array of the input.
        source: the tensor's shape before.
        target: the tensor's shape after.
        batch: the axes along which the batch lies, before and after.

    Raises:
        NoRule: the batch axis is mixed with channels, or something varies along an axis
            of unknown size.
    """
    source, target = _with_batch_sizes(source, target, batch)
    shape_in: list[int] = []
    shape_out: list[int] = []
    for ins, outs in _blocks(source, target):
        varies = any(array.shape[a] != 1 for a in ins)
        if varies and None in (source[a] for a in ins):
            raise NoRule("its channel axis has no fixed size")
        if varies and not set(ins).isdisjoint(batch[0]):
            raise NoRule("it mixes the batch axis with channels")
        for a in ins:
            if varies:
                array = expand(array, a, source[a])
        shape_in += [array.shape[a] for a in ins]
        shape_out += [_known(target[a]) if varies else 1 for a in outs]
    return np.reshape(array, shape_out)


def _with_batch_sizes(
    source: Shape, target: Shape, batch: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[Shape, Shape]:
    """The shapes with numbers for the batch, such that both have as many entries."""
    if not (batch[0] and batch[1]):
        return source, target
    before = _product(source[: batch[0][0]] + source[batch[0][0] + 1 :])
    after = _product(target[: batch[1][0]] + target[batch[1][0] + 1 :])
    common = math.gcd(before, after) or 1
    sizes = _A_PRIME * after // common, _A_PRIME * before // common
    shapes = []
    for shape, axes, size in zip((source, target), batch, sizes, strict=True):
        shapes.append((*shape[: axes[0]], size, *shape[axes[0] + 1 :]))
    return shapes[0], shapes[1]


_A_PRIME = 2**31 - 1
"""Larger than the sizes of axes, so that no block ends inside the batch by accident."""


def _blocks(source: Shape, target: Shape) -> list[tuple[range, range]]:
    """Ranges of axes of the two shapes that have equal products, left to right."""
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
                raise NoRule("it mixes the batch axis with channels")
            i, j = (i - 1, j) if a < b else (i, j - 1)
        blocks.insert(0, (range(i, end_i), range(j, end_j)))
    return blocks


def _known(size: int | None) -> int:
    if size is None:
        raise NoRule("its channel axis has no fixed size")
    return size


def _product(sizes: Shape) -> int:
    return math.prod(size for size in sizes if size is not None)
