"""Operations that only move values: channel arrays are moved by the same operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    everything,
    expand,
    kept_along,
    reshape,
    whole_slices,
)
from pgmpf_tf.channels.flow import Channels, Flow
from pgmpf_tf.channels.nodes import Node, Tensor
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
        probe = np.empty((2,) + (1,) * (arrays[0].ndim - 1))
        if self.move(node.operation, probe, node).shape[:1] != (2,):
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


def repeat(operation: keras.Operation, array: Array, node: Node) -> Array:
    if operation.axis is None or not isinstance(operation.repeats, int):
        raise NoRule("it repeats in an irregular way")
    axis = operation.axis % array.ndim
    if axis == 0:
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
        return reshape(array, source, node.outputs[0].shape)

    def combine(
        self, node: Node, flow: Flow, labels: list[Array], values: list[Array]
    ) -> Channels:
        """Channels spread over several axes go in whole slices of the longest."""
        varying = [axis for axis, size in enumerate(labels[0].shape) if size > 1]
        if len(varying) > 1:
            varying.remove(max(varying, key=lambda axis: labels[0].shape[axis]))
            flow.tie(labels[0], labels[0].max(axis=tuple(varying), keepdims=True))
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


class Split(Entrywise):
    """Cuts an axis at fixed places."""

    def _axis(self, node: Node) -> int:
        axis = node.operation.axis % len(node.inputs[0].shape)
        if axis == 0:
            raise NoRule("it splits the batch")
        return axis

    def _ends(self, node: Node) -> Array:
        sizes = [tensor.shape[self._axis(node)] for tensor in node.outputs]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            raise NoRule("it splits an axis of unknown size")
        return np.cumsum(known)[:-1]

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        axis = self._axis(node)
        if arrays[0].shape[axis] == 1:
            return [[arrays[0]] for _ in node.outputs]
        return [[piece] for piece in np.split(arrays[0], self._ends(node), axis=axis)]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        outputs = [these[0] for these in self.sources(node, kept, True)]
        if all((whole_slices(out) == out).all() for out in outputs):
            return [*kept], outputs
        full = [np.ones_like(k) for k in kept]
        return [*full], [these[0] for these in self.sources(node, full, True)]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        axis = self._axis(node)
        chosen = kept_along(cut.input, axis)
        if chosen.all():
            return narrower(node)
        ends = [int(chosen[:end].sum()) for end in self._ends(node)]
        return narrower(node, {"indices_or_sections": ends})


class GetItem(Entrywise):
    """`x[...]` with integers and slices."""

    def _key(self, node: Node) -> list[Any]:
        """One int or slice per input axis, or None for a new axis."""
        key = node.args[1] if len(node.args) > 1 else node.kwargs["key"]
        key = list(key) if isinstance(key, (tuple, list)) else [key]
        rank = len(node.inputs[0].shape)
        if any(isinstance(k, Tensor) for k in key) or len(node.inputs) != 1:
            raise NoRule("its index is computed")
        used = sum(k is not None and k is not Ellipsis for k in key)
        at = next((i for i, k in enumerate(key) if k is Ellipsis), len(key))
        key[at : at + 1] = [slice(None)] * (rank - used)
        if not all(k is None or isinstance(k, (int, slice)) for k in key):
            raise NoRule("its index is not made of integers and slices")
        if key[:1] != [slice(None)]:
            raise NoRule("it indexes the batch")
        return key

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        array, axis = arrays[0], 0
        applied: list[Any] = []
        for k in self._key(node):
            if k is None:
                applied.append(None)
                continue
            if array.shape[axis] == 1:
                k = 0 if isinstance(k, int) else slice(None)
            elif isinstance(k, slice) and k.step not in (None, 1):
                raise NoRule("it takes channels with a step")
            applied.append(k)
            axis += 1
        return [[array[tuple(applied)]]]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        axis = 0
        key: list[Any] = []
        for k in self._key(node):
            if k is None:
                key.append(None)
                continue
            chosen = kept_along(cut.input, axis)
            if not chosen.all() and isinstance(k, int):
                k = int(chosen[: k % chosen.size].sum())
            elif not chosen.all():
                start, stop, _ = k.indices(chosen.size)
                k = slice(int(chosen[:start].sum()), int(chosen[:stop].sum()))
            key.append(k)
            axis += 1
        return narrower(node, arguments=((node.inputs[0], tuple(key)), {}))


class Pad(Entrywise):
    """`ops.pad`: zeros around, along spatial axes and along channels."""

    def _widths(self, node: Node) -> list[tuple[int, int]]:
        rank = len(node.inputs[0].shape)
        widths = [tuple(pair) for pair in node.operation.pad_width]
        widths = widths * rank if len(widths) == 1 else widths
        if tuple(widths[0]) != (0, 0):
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


class Gathering(Entrywise):
    """Zeros between channels: they are left out, and put back where they are read."""

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        axis, numbers = node.operation.axis, node.operation.numbers
        array = expand(arrays[0], axis, node.inputs[0].shape[axis])
        filled = np.concatenate(
            [array, np.full_like(np.take(array, [0], axis=axis), fill)], axis=axis
        )
        return [[np.take(filled, numbers, axis=axis)]]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        axis = node.operation.axis
        present = expand(kept[0], axis, node.inputs[0].shape[axis])
        whole = everything(present.ndim)
        taken = self.pull(node, [whole], [present.shape])[0]
        chosen = present & taken
        if not chosen.any():  # only its zeros are read: one channel must be there
            chosen.flat[np.argmax(taken)] = True
        return [chosen], [self.sources(node, [chosen], False)[0][0]]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        return passed_on()


FLATTEN = Reshaping()
RESHAPE_LAYER = Reshaping("target_shape")
RESHAPE = Reshaping("newshape", batch=True)
