"""Operations that only move values: channel arrays are moved by the same operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    kept_along,
    reshape,
    whole_slices,
)
from pgmpf_tf.channels.flow import Channels, Flow
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Layout
from pgmpf_tf.rules.entrywise import Entrywise
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower, passed_on
from pgmpf_tf.rules.weights import Weights

Movement = Callable[[keras.Operation, Array, Node], Array]


class Rearrange(Entrywise):
    """One tensor, moved by a NumPy function of `(operation, array, node)`.

    Args:
        move: the function; it sees axes of size 1 where nothing varies.
    """

    def __init__(self, move: Movement) -> None:
        self.move = move

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        before, after = node.inputs[0].batch, node.outputs[0].batch
        probe = np.empty([1 + (axis in before) for axis in range(arrays[0].ndim)])
        moved = self.move(node.operation, probe, node).shape
        if moved != tuple(1 + (axis in after) for axis in range(len(moved))):
            raise NoRule("it moves the batch axis")
        return [[self.move(node.operation, arrays[0], node)]]


def transpose(operation: keras.Operation, array: Array, node: Node) -> Array:
    return np.transpose(array, operation.axes)


def swapaxes(operation: keras.Operation, array: Array, node: Node) -> Array:
    return np.swapaxes(array, operation.axis1, operation.axis2)


def moveaxis(operation: keras.Operation, array: Array, node: Node) -> Array:
    return np.moveaxis(array, operation.source, operation.destination)


def permute(operation: keras.Operation, array: Array, node: Node) -> Array:
    return np.transpose(array, (0, *operation.dims))


def expand_dims(operation: keras.Operation, array: Array, node: Node) -> Array:
    axis = operation.axis
    return np.expand_dims(array, tuple(axis) if isinstance(axis, list) else axis)


def repeat_vector(operation: keras.Operation, array: Array, node: Node) -> Array:
    return array[:, None]


def flip(operation: keras.Operation, array: Array, node: Node) -> Array:
    if operation.axis is None:
        raise NoRule("it moves the batch axis")
    return np.flip(array, operation.axis)


def roll(operation: keras.Operation, array: Array, node: Node) -> Array:
    axes = operation.axis
    if axes is None:
        raise NoRule("it moves the batch axis")
    axes = axes if isinstance(axes, (list, tuple)) else (axes,)
    if any(array.shape[axis] != 1 for axis in axes):
        raise NoRule("it shifts channels")
    return array


def repeat(operation: keras.Operation, array: Array, node: Node) -> Array:
    if operation.axis is None or not isinstance(operation.repeats, int):
        raise NoRule("it repeats in an irregular way")
    axis = operation.axis % array.ndim
    if axis in node.inputs[0].batch:
        raise NoRule("it moves the batch axis")
    return (
        array if array.shape[axis] == 1 else np.repeat(array, operation.repeats, axis)
    )


class Squeeze(Rearrange):
    """Drops axes of size 1: named ones, since pruning may make others so thin."""

    def __init__(self) -> None:
        super().__init__(self._squeeze)

    def _squeeze(self, operation: keras.Operation, array: Array, node: Node) -> Array:
        return np.squeeze(array, self._axes(node))

    @staticmethod
    def _axes(node: Node) -> tuple[int, ...]:
        axis, shape = node.operation.axis, node.inputs[0].shape
        if axis is None:
            return tuple(a for a, size in enumerate(shape) if size == 1)
        return tuple(axis) if isinstance(axis, (list, tuple)) else (axis,)

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        return narrower(node, {"axis": self._axes(node)})


class Reshaping(Rearrange):
    """Reshape and Flatten. What is kept must be whole slices before and after.

    Args:
        target: the configuration entry with the new shape; None if there is none.
        batch: whether that entry includes the batch axis.
    """

    def __init__(self, target: str | None = None, batch: bool = False) -> None:
        super().__init__(self._move)
        self.target, self.batch = target, batch

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        return [[self._move(node.operation, arrays[0], node)]]

    @staticmethod
    def _move(operation: keras.Operation, array: Array, node: Node) -> Array:
        source = list(node.inputs[0].shape)
        if getattr(operation, "data_format", None) == "channels_first":
            order = (0, *range(2, len(source)), 1)  # what Keras' Flatten does first
            array, source = np.transpose(array, order), [source[a] for a in order]
        batch = node.inputs[0].batch, node.outputs[0].batch
        return reshape(array, tuple(source), node.outputs[0].shape, batch)

    def combine(
        self, node: Node, flow: Flow, labels: list[Array], values: list[Array]
    ) -> Channels:
        """Channels that come to lie along several axes go in whole slices of one."""
        flow.spread(labels[0])
        return super().combine(node, flow, labels, values)

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        shapes = [value.shape for value in values]
        wanted = needed[0]
        assert wanted is not None  # a call without any use is not asked
        while True:
            pulled = self.pull(node, [wanted], shapes)
            moved = whole_slices(self.sources(node, pulled, False)[0][0])
            if (moved == wanted).all():
                return [*pulled]
            wanted = moved | wanted

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        out = self.sources(node, kept, True)[0][0]
        if (whole_slices(out) == out).all():
            return [*kept], [out]
        assert read[0] is not None
        return read, [self.sources(node, [read[0]], True)[0][0]]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        if self.target is None:
            return narrower(node)
        out = cut.outputs[0]
        sizes = [kept_along(out, axis) for axis in range(out.ndim)]
        shape = list(getattr(node.operation, self.target))
        offset = 0 if self.batch else 1
        for place, entry in enumerate(shape):
            if entry != -1 and not sizes[place + offset].all():
                shape[place] = int(sizes[place + offset].sum())
        if list(getattr(node.operation, self.target)) == shape:
            return narrower(node)
        if -1 in shape and None not in node.outputs[0].shape[1:]:
            place = shape.index(-1)
            if not (self.batch and place == 0):
                # the inferred entry must not absorb what another axis lost
                kept = sizes[place + offset]
                size = node.outputs[0].shape[place + offset]
                shape[place] = size if kept.all() else int(kept.sum())
        return narrower(node, {self.target: tuple(shape)})


class Pad(Entrywise):
    """`ops.pad`: zeros around, along spatial axes and along channels."""

    def _widths(self, node: Node) -> list[tuple[int, int]]:
        rank = len(node.inputs[0].shape)
        widths = [tuple(pair) for pair in node.operation.pad_width]
        widths = widths * rank if len(widths) == 1 else widths
        if any(tuple(widths[axis]) != (0, 0) for axis in node.inputs[0].batch):
            raise NoRule("it pads the batch")
        return widths

    def _fill(self, node: Node) -> float:
        fill = node.kwargs.get("constant_values", (*node.args, None)[1])
        return 0.0 if fill is None else float(fill)

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        array = arrays[0]
        widths = [
            (0, 0)
            if array.shape[axis] == 1 and node.inputs[0].shape[axis] != 1
            else pair
            for axis, pair in enumerate(self._widths(node))
        ]
        if node.operation.mode != "constant":
            if any(
                pair != (0, 0)
                for pair, n in zip(widths, array.shape, strict=True)
                if n > 1
            ):
                raise NoRule("it mirrors channels")
            return [[array]]
        if isinstance(fill, float):
            fill = self._fill(node)
        return [[np.pad(array, widths, constant_values=fill)]]

    def value(self, node: Node, sources: list[Array]) -> Array:
        """Along uniform axes the padding lies beside the data: equal or unknown."""
        filled = self._fill(node) if node.operation.mode == "constant" else 0.0
        return np.where(sources[0] == filled, sources[0], np.nan)

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        """Channels of zeros are not made: who needs them has them inserted."""
        assert needed[0] is not None
        out = self.sources(node, kept, False)[0][0] | needed[0]
        if (whole_slices(out) == out).all():
            return [*kept], [out]
        return super().layout(node, kept, needed, read)

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        widths = []
        for axis, (before, after) in enumerate(self._widths(node)):
            chosen = kept_along(cut.outputs[0], axis)
            if chosen.size > 1 and not chosen.all():
                before = int(chosen[:before].sum())
                after = int(chosen[chosen.size - after :].sum())
            widths.append((before, after))
        if widths == self._widths(node):
            return narrower(node)
        if not np.any(widths):
            return passed_on()
        return narrower(node, {"pad_width": tuple(widths)})


FLATTEN = Reshaping()
RESHAPE_LAYER = Reshaping("target_shape")
RESHAPE = Reshaping("newshape", batch=True)
