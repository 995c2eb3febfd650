"""Operations in which several tensors meet: sums, products, concatenations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    Shape,
    expand,
    kept_along,
    whole_slices,
)
from pgmpf_tf.channels.flow import NO_LABEL, Channels, Flow
from pgmpf_tf.channels.nodes import Node, Tensor
from pgmpf_tf.rules.base import Layout
from pgmpf_tf.rules.entrywise import Entrywise
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower, passed_on
from pgmpf_tf.rules.weights import Weights


def multiply(a: Array, b: Array) -> Array:
    """A product, in which zero wins over the unknown."""
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def divide(a: Array, b: Array) -> Array:
    """A quotient; zero over an unknown stays unknown (it may be 0 / 0)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result = a / b
    return np.where(np.isfinite(result), result, np.nan)


class Join(Entrywise):
    """An elementwise function of several tensors and constants, which broadcast.

    Args:
        function: its NumPy form for two arguments; NaN stands for the unknown.
        ties: channels that are combined are tied (in `independent` coupling too).
        additive: an argument that is zero may be left out.
        masked: the layer of this name computes something else where a Keras mask is.
    """

    def __init__(
        self,
        function: Callable[[Array, Array], Array],
        *,
        ties: bool = False,
        additive: bool = False,
        masked: bool = False,
    ) -> None:
        self.function, self.ties = function, ties
        self.additive, self.masked = additive, masked

    def operands(self, node: Node) -> list[Any]:
        """What is joined, in order: `Tensor`s, and constants as arrays."""
        leaves = tree.flatten([*node.args, *node.kwargs.values()])
        operands: list[Any] = []
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                operands.append(leaf)
            elif isinstance(leaf, keras.Variable):
                raise NoRule("it uses a variable outside of any layer")
            elif leaf is not None:
                operands.append(np.asarray(keras.ops.convert_to_numpy(leaf)))
        return operands

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        rank, remaining = len(node.outputs[0].shape), iter(arrays)
        result: list[Array] = []
        sizes: list[Shape] = []
        operands = self.operands(node)
        # Where nothing varies yet, the last axis is that of channels.
        varying = {
            rank - array.ndim + axis
            for array in arrays
            for axis, size in enumerate(array.shape)
            if size > 1
        } or {rank - 1}
        for operand in operands:
            missing = (1,) * (rank - len(operand.shape))
            size = missing + tuple(operand.shape)
            if isinstance(operand, Tensor):
                array = next(remaining)
                array = array.reshape(missing + array.shape)
            else:
                if any(size[axis] != 1 for axis in node.outputs[0].batch):
                    raise NoRule("a constant in it depends on the place in the batch")
                array = self._constant(operand.reshape(size), fill, varying)
            result.append(array)
            sizes.append(size)
        return [self._spread(result, sizes)]

    @staticmethod
    def _constant(values: Array, fill: Any, varying: set[int]) -> Array:
        """A constant, told apart along axes of channels only: not place by place."""
        values = values.astype("float64")
        for axis in range(values.ndim):
            first = values.take([0], axis=axis)
            same = (values == first) | (np.isnan(values) & np.isnan(first))
            if axis not in varying:
                alike = same.all(axis=axis, keepdims=True)
                values = np.where(alike, first, np.nan)
            elif same.all():
                values = first
        if isinstance(fill, float):
            return values
        return np.full(values.shape, fill)

    @staticmethod
    def _spread(arrays: list[Array], sizes: list[Shape]) -> list[Array]:
        """Spell out what is uniform in one array and varies in another."""
        joint = np.broadcast_shapes(*(a.shape for a in arrays))
        for axis, wide in enumerate(joint):
            for i, array in enumerate(arrays):
                if wide > 1 and array.shape[axis] == 1 and sizes[i][axis] != 1:
                    arrays[i] = expand(array, axis, sizes[i][axis])
        return arrays

    def value(self, node: Node, sources: list[Array]) -> Array:
        if self.masked and _masks(node):
            zero = functools.reduce(np.logical_and, [s == 0 for s in sources])
            return np.where(zero, 0.0, np.nan)
        return functools.reduce(self.function, sources)

    def combine(
        self, node: Node, flow: Flow, labels: list[Array], values: list[Array]
    ) -> Channels:
        sums = flow.independent and not self.ties
        if sums and self._differ(*self._of_samples(node, labels, values)):
            for label, value in zip(labels, values, strict=True):
                flow.mix(Channels(*np.broadcast_arrays(label, value)), "a sum")
            shape = np.broadcast_shapes(*(label.shape for label in labels))
            return Channels(np.full(shape, NO_LABEL), np.full(shape, np.nan))
        return super().combine(node, flow, labels, values)

    def _of_samples(self, node: Node, *arrays: list[Array]) -> tuple[list[Array], ...]:
        """Those that are made of samples: a weight is tied to what it is added to."""
        samples = [not isinstance(x, Tensor) or x.batch for x in self.operands(node)]
        if len(samples) != len(arrays[0]):  # they lie side by side
            return arrays
        chosen = [place for place, sample in enumerate(samples) if sample]
        return tuple([each[place] for place in chosen] for each in arrays)

    @staticmethod
    def _differ(labels: list[Array], values: list[Array]) -> bool:
        """Whether tensors with different channels are combined, besides constants."""
        constant = [
            (label < 0).all() and not np.isnan(value).any()
            for label, value in zip(labels, values, strict=True)
        ]
        mine = [la for la, known in zip(labels, constant, strict=True) if not known]
        return any(not np.array_equal(label, mine[0]) for label in mine)

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        """Zeros need not be there: they are inserted where they are missing."""
        pulled = [
            whole_slices(need & ~(value == 0))
            for need, value in zip(
                self.pull(node, needed, [value.shape for value in values]),
                values,
                strict=True,
            )
        ]
        if self.additive and len(pulled) == len(self.operands(node)) > 1:
            return self._without_zeros(node, pulled)
        return [*pulled]

    @staticmethod
    def _without_zeros(node: Node, pulled: list[Array]) -> list[Array | None]:
        """Leave out terms that are zero where it matters, but never the last one."""
        if len(_masks(node)) > 1:  # the mask of the sum is made of all of them
            return [*pulled]
        out = node.outputs[0]
        alike = [t.shape == out.shape and t.dtype == out.dtype for t in node.inputs]
        zero = [same and not p.any() for same, p in zip(alike, pulled, strict=True)]
        if all(zero):
            zero[0] = False
        if not any(same and not gone for same, gone in zip(alike, zero, strict=True)):
            return [*pulled]
        return [None if gone else need for gone, need in zip(zero, pulled, strict=True)]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        """Pass through where all inputs agree; else bring all to what is needed."""
        wanted = needed[0]
        assert wanted is not None  # a call without any use is not asked
        # Where a term that is left out is not zero, the others are not the sum.
        sources = self.sources(node, kept, True)[0]
        joint = functools.reduce(np.logical_and, sources)
        joint, wanted = np.broadcast_arrays(joint, wanted)
        tensors = [
            source
            for source, x in zip(sources, self.operands(node), strict=True)
            if isinstance(x, Tensor)
        ]
        used = [s for s, r in zip(tensors, read, strict=True) if r is not None]
        agree = all((np.broadcast_to(s, joint.shape) == joint).all() for s in used)
        passes = agree and (whole_slices(joint) == joint).all()
        if not (passes and joint[wanted].all()):
            joint = whole_slices(wanted.copy())
            kept = [
                _project(joint, s.shape, len(t.shape))
                for s, t in zip(tensors, node.inputs, strict=True)
            ]
        return [
            k if r is not None else None for k, r in zip(kept, read, strict=True)
        ], [joint]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        left = [place for place, k in enumerate(cut.inputs) if k is not None]
        if len(left) == 1 < len(node.inputs):
            return passed_on(left[0])

        def shorten(leaf: Any) -> Any:
            if isinstance(leaf, (Tensor, list, tuple)) or not np.shape(leaf):
                return leaf
            return _cut_constant(leaf, cut.outputs[0])

        args = tuple(shorten(arg) for arg in node.args)
        kwargs = {name: shorten(value) for name, value in node.kwargs.items()}
        return narrower(node, arguments=(args, kwargs))


def _masks(node: Node) -> set[int | None]:
    """The different masks that come with the inputs of a layer; empty without any."""
    if not isinstance(node.operation, keras.layers.Layer) or not any(node.carried):
        return set()
    return {None if mask is None else id(mask) for mask in node.carried}


def _cut_constant(constant: Any, kept: Array) -> Any:
    """The part of a constant argument that meets what is kept."""
    array = np.asarray(keras.ops.convert_to_numpy(constant))
    for axis in range(-array.ndim, 0):
        chosen = kept_along(kept, axis)
        if array.shape[axis] > 1 and not chosen.all():
            array = np.compress(chosen, array, axis=axis)
    return constant if array.shape == np.shape(constant) else array


def _project(target: Array, shape: tuple[int, ...], rank: int) -> Array:
    """A choice of the result's entries as a choice of a source's, of a lower rank."""
    axes = tuple(a for a, n in enumerate(shape) if n == 1 and target.shape[a] > 1)
    chosen = np.asarray(target.any(axis=axes, keepdims=True))
    return chosen.reshape(chosen.shape[chosen.ndim - rank :])


class Average(Join):
    """The mean of its inputs."""

    def __init__(self) -> None:
        super().__init__(np.add)

    def value(self, node: Node, sources: list[Array]) -> Array:
        return super().value(node, sources) / len(sources)


class ScaledSum(Join):
    """`x + scale * residual`, as in InceptionResNetV2."""

    def __init__(self) -> None:
        super().__init__(np.add)

    def value(self, node: Node, sources: list[Array]) -> Array:
        return sources[0] + node.operation.scale * sources[1]


def _uniform(array: Array, axis: int) -> Array:
    first = array.take([0], axis)
    same = (array == first).all(axis=axis, keepdims=True)
    if array.dtype.kind == "f":
        return np.where(same, first, np.nan)
    if not same.all():
        raise NoRule("only some of its inputs are told apart along its axis")
    return first


class Concatenate(Join):
    """Pieces side by side along channels; along other axes, equals are combined."""

    def __init__(self) -> None:
        super().__init__(lambda a, b: np.where(a == b, a, np.nan))

    def operands(self, node: Node) -> list[Any]:
        if len(node.inputs) != len(tree.flatten((node.args, node.kwargs))):
            raise NoRule("it takes constants")
        return node.inputs

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        axis = node.operation.axis % arrays[0].ndim
        if axis in node.outputs[0].batch:
            raise NoRule("it works along the batch axis")
        # The first arrays to come by say it; later ones may have lost an input.
        apart = node.memo.setdefault(
            "apart",
            any(array.shape[axis] > 1 for array in arrays)
            or all(tensor.shape[axis] == 1 for tensor in node.inputs),
        )
        if apart:
            arrays = [
                expand(a, axis, t.shape[axis])
                for a, t in zip(arrays, node.inputs, strict=True)
            ]
        else:
            arrays = [_uniform(array, axis) for array in arrays]
        for other in set(range(arrays[0].ndim)) - {axis}:
            if any(array.shape[other] > 1 for array in arrays):
                size = node.inputs[0].shape[other]
                arrays = [expand(array, other, size) for array in arrays]
        return [[np.concatenate(arrays, axis=axis)] if apart else arrays]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        if not node.memo["apart"]:
            return super().needs(node, weights, needed, values)
        pulled = self.pull(node, needed, [value.shape for value in values])
        return [need if need.any() else None for need in pulled]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        axis = node.operation.axis % kept[0].ndim
        if not node.memo["apart"]:
            kept = [
                k if r is None or (k == k.take([0], axis)).all() else r
                for k, r in zip(kept, read, strict=True)
            ]
            return super().layout(node, kept, needed, read)
        present = [
            np.zeros_like(expand(k, axis, t.shape[axis])) if r is None else k
            for t, k, r in zip(node.inputs, kept, read, strict=True)
        ]
        out = self.sources(node, present, True)[0][0]
        if (whole_slices(out) == out).all():
            return [
                k if r is not None else None for k, r in zip(kept, read, strict=True)
            ], [out]
        assert needed[0] is not None
        target = whole_slices(np.broadcast_to(needed[0], out.shape))
        ends = np.cumsum([tensor.shape[axis] for tensor in node.inputs])[:-1]
        pieces = np.split(target, ends, axis=axis)
        return [
            piece if r is not None else None
            for piece, r in zip(pieces, read, strict=True)
        ], [target]


class Select(Join):
    """`ops.where`: each entry is one of two, or of a constant."""

    def __init__(self) -> None:
        super().__init__(lambda a, b: np.where(a == b, a, np.nan))

    def value(self, node: Node, sources: list[Array]) -> Array:
        _, one, other = np.broadcast_arrays(*sources)
        return self.function(one, other)


SUM = Join(np.add, additive=True)
DIFFERENCE = Join(np.subtract)
PRODUCT = Join(multiply, ties=True, masked=True)
QUOTIENT = Join(divide, ties=True)
POWER = Join(lambda a, b: np.where((a == 0) & (b > 0), 0.0, np.nan))
MAXIMUM = Join(np.maximum, masked=True)
MINIMUM = Join(np.minimum, masked=True)
