"""Operations that pick pieces of a tensor, or put tensors side by side."""

from __future__ import annotations

import abc
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    everything,
    expand,
    kept_along,
    whole_slices,
)
from pgmpf_tf.channels.nodes import Node, Tensor
from pgmpf_tf.rules.base import Layout
from pgmpf_tf.rules.entrywise import Entrywise
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower, passed_on
from pgmpf_tf.rules.weights import Weights


class Split(Entrywise):
    """Cuts an axis at fixed places."""

    def _axis(self, node: Node) -> int:
        axis = node.operation.axis % len(node.inputs[0].shape)
        if axis in node.inputs[0].batch:
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
        along = [k for k in key if k is not None]
        if any(along[axis] != slice(None) for axis in node.inputs[0].batch):
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


class Whole(Entrywise):
    """Operations that need one axis whole, and move what varies along others."""

    @abc.abstractmethod
    def axis(self, node: Node) -> int:
        """The axis of the input."""

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        axis = self.axis(node)
        read = self.pull(node, needed, [value.shape for value in values])
        read[0] = whole_along(read[0], axis)
        return [*read]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        kept = [whole_along(kept[0], self.axis(node)), *kept[1:]]
        return super().layout(node, kept, needed, read)


def whole_along(kept: Array, *axes: int) -> Array:
    """A choice with all along some axes of what is chosen along the others."""
    some = kept.any(axis=axes, keepdims=True)
    return np.broadcast_to(some, kept.shape).copy()


class Unstack(Whole):
    """`ops.unstack`: the slices along an axis."""

    def axis(self, node: Node) -> int:
        axis = node.operation.axis % len(node.inputs[0].shape)
        if axis in node.inputs[0].batch:
            raise NoRule("it takes the batch apart")
        return axis

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        axis, array = self.axis(node), arrays[0]
        return [
            [np.take(array, min(place, array.shape[axis] - 1), axis=axis)]
            for place in range(len(node.outputs))
        ]


class Take(Whole):
    """`ops.take` along an axis, at indices that are constants or of the input."""

    def axis(self, node: Node) -> int:
        if node.operation.axis is None:
            raise NoRule("it flattens the batch")
        return node.operation.axis % len(node.inputs[0].shape)

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        axis, array = self.axis(node), arrays[0]
        if array.shape[axis] != 1:
            raise NoRule("it picks channels")
        if not isinstance(node.args[0], Tensor):
            raise NoRule("it picks of a constant")
        rank = len(node.outputs[0].shape)
        shape = [*array.shape[:axis], *array.shape[axis + 1 :]]
        shape[axis:axis] = [1] * (rank - len(shape))
        return [[array.reshape(shape)]]


class TakeAlongAxis(Whole):
    """`ops.take_along_axis` where all channels are taken at the same places."""

    def axis(self, node: Node) -> int:
        axis = node.operation.axis
        if axis is None or len(node.inputs) != 2:
            raise NoRule("it flattens the batch, or picks of a constant")
        axis = axis % len(node.inputs[0].shape)
        if axis in node.inputs[0].batch:
            raise NoRule("it picks samples")
        return axis

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        axis, (array, places) = self.axis(node), arrays
        if array.shape[axis] != 1:
            raise NoRule("it picks channels")
        sizes = zip(array.shape, node.inputs[1].shape, strict=True)
        if places.size > 1 or any(n > 1 and wide != 1 for n, wide in sizes):
            raise NoRule("it picks each channel at a place of its own")
        return [[array]]


class Stack(Entrywise):
    """`ops.stack`: tensors side by side along a new axis."""

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        axis = node.operation.axis % (arrays[0].ndim + 1)
        leaves = keras.tree.flatten((node.args, node.kwargs))
        if axis in node.outputs[0].batch or len(leaves) != len(node.inputs):
            raise NoRule("it stacks along the batch, or constants")
        for other in range(arrays[0].ndim):
            if any(array.shape[other] > 1 for array in arrays):
                size = node.inputs[0].shape[other]
                arrays = [expand(array, other, size) for array in arrays]
        return [[np.stack(arrays, axis=axis)]]


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
