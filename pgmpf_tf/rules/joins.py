"""Operations in which several tensors meet: sums, products, concatenations."""

from __future__ import annotations

import functools

import keras
import numpy as np
from keras import tree

from pgmpf_tf.channels.flow import NO_LABEL, Channels
from pgmpf_tf.channels.graph import Tensor
from pgmpf_tf.channels.slots import along, expand, hull
from pgmpf_tf.rules.base import Call, NoRule, Wired


def multiply(a, b):
    """A product, in which zero wins over the unknown."""
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def divide(a, b):
    """A quotient; zero over an unknown stays unknown (it may be 0 / 0)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result = a / b
    return np.where(np.isfinite(result), result, np.nan)


class Join(Wired):
    """An elementwise function of several tensors and constants, which broadcast.

    Args:
        function: its NumPy form for two arguments; NaN stands for the unknown.
        ties: the channels that meet are tied (in `independent` coupling too).
        additive: an argument that is zero may be left out.
    """

    def __init__(self, function, *, ties: bool = False, additive: bool = False):
        self.function, self.ties, self.additive = function, ties, additive

    def operands(self, node) -> list:
        """What is joined, in order: `Tensor`s, and constants as arrays."""
        leaves = tree.flatten((node.args, node.kwargs))
        operands = []
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                operands.append(leaf)
            elif isinstance(leaf, keras.Variable):
                raise NoRule("it uses a variable outside of any layer")
            elif leaf is not None:
                operands.append(np.asarray(keras.ops.convert_to_numpy(leaf)))
        return operands

    def sources(self, node, arrays, fill):
        shape = node.outputs[0].shape
        rank, remaining, result, sizes = len(shape), iter(arrays), [], []
        for operand in self.operands(node):
            size = tuple(operand.shape)
            if isinstance(operand, Tensor):
                if len(size) != rank:
                    raise NoRule("its inputs have different ranks")
                array = next(remaining)
            else:
                size = (1,) * (rank - len(size)) + size
                if size[:1] != (1,):
                    raise NoRule("a constant in it depends on the place in the batch")
                array = self._constant(operand.reshape(size), fill)
            result.append(array)
            sizes.append(size)
        return [self._spread(result, sizes, shape)]

    @staticmethod
    def _constant(values, fill):
        for axis in range(values.ndim):
            first = values.take([0], axis=axis)
            if (values == first).all():
                values = first
        if isinstance(fill, float):
            return values.astype("float64")
        return np.full(values.shape, fill)

    @staticmethod
    def _spread(arrays, sizes, shape):
        """Spell out what is uniform in one array and varies in another."""
        joint = np.broadcast_shapes(*(a.shape for a in arrays))
        for axis, wide in enumerate(joint):
            for i, array in enumerate(arrays):
                if wide > 1 and array.shape[axis] == 1 and sizes[i][axis] != 1:
                    arrays[i] = expand(array, axis, sizes[i][axis])
        return arrays

    def value(self, node, sources):
        return functools.reduce(self.function, sources)

    def meet(self, node, flow, labels, values):
        if flow.independent and not self.ties and self._differ(labels, values):
            for label, value in zip(labels, values, strict=True):
                flow.read(Channels(*np.broadcast_arrays(label, value)), "a sum")
            shape = np.broadcast_shapes(*(label.shape for label in labels))
            return Channels(np.full(shape, NO_LABEL), np.full(shape, np.nan))
        return super().meet(node, flow, labels, values)

    @staticmethod
    def _differ(labels, values):
        """Whether tensors with different channels meet (constants do not count)."""
        constant = [
            (label < 0).all() and not np.isnan(value).any()
            for label, value in zip(labels, values, strict=True)
        ]
        mine = [la for la, known in zip(labels, constant, strict=True) if not known]
        return any(not np.array_equal(label, mine[0]) for label in mine)

    def needs(self, node, needed, values):
        """Zeros need not be there: they are inserted where they are missing."""
        pulled = super().needs(node, needed, values)
        pulled = [
            hull(need & ~(v == 0)) for need, v in zip(pulled, values, strict=True)
        ]
        if self.additive and len(pulled) == len(self.operands(node)) > 1:
            return self._without_zeros(node, pulled)
        return pulled

    @staticmethod
    def _without_zeros(node, pulled):
        """Leave out terms that are zero where it matters, but never the last one."""
        out = node.outputs[0]
        alike = [t.shape == out.shape and t.dtype == out.dtype for t in node.inputs]
        zero = [same and not p.any() for same, p in zip(alike, pulled, strict=True)]
        if all(zero):
            zero[0] = False
        if not any(same and not gone for same, gone in zip(alike, zero, strict=True)):
            return pulled
        return [None if gone else need for gone, need in zip(zero, pulled, strict=True)]

    def layout(self, node, kept, needed, read):
        """Pass through where all inputs agree; else bring all to what is needed."""
        present = [
            np.ones(needed[0].shape, bool) if r is None else k
            for k, r in zip(kept, read, strict=True)
        ]
        met = self.sources(node, present, True)[0]
        joint = functools.reduce(np.logical_and, met)
        mine = [
            m
            for m, x in zip(met, self.operands(node), strict=True)
            if isinstance(x, Tensor)
        ]
        used = [m for m, r in zip(mine, read, strict=True) if r is not None]
        agree = all((np.broadcast_to(m, joint.shape) == joint).all() for m in used)
        wanted = np.broadcast_to(needed[0], joint.shape)
        if not (agree and (hull(joint) == joint).all() and joint[wanted].all()):
            joint = hull(wanted.copy())
            kept = [_project(joint, m.shape) for m in mine]
        return [
            k if r is not None else None for k, r in zip(kept, read, strict=True)
        ], [joint]

    def rebuild(self, node, kept_in, kept_out):
        left = [t for t, k in zip(node.inputs, kept_in, strict=True) if k is not None]
        if len(left) == 1 < len(node.inputs):
            return Call(alias=left[0])

        def cut(leaf):
            if isinstance(leaf, (list, tuple)):
                return [x for x in leaf if x in left]
            if isinstance(leaf, Tensor) or not np.shape(leaf):
                return leaf
            return _cut_constant(leaf, kept_out[0])

        args = tuple(cut(arg) for arg in node.args)
        return Call(arguments=(args, {k: cut(v) for k, v in node.kwargs.items()}))


def _cut_constant(constant, kept):
    """The part of a constant argument that meets what is kept."""
    array = np.asarray(keras.ops.convert_to_numpy(constant))
    for axis in range(-array.ndim, 0):
        chosen = along(kept, axis)
        if array.shape[axis] > 1 and not chosen.all():
            array = np.compress(chosen, array, axis=axis)
    return constant if array.shape == np.shape(constant) else array


def _project(target, shape):
    """A choice of the result's slots as a choice of a source's."""
    axes = tuple(a for a, n in enumerate(shape) if n == 1 and target.shape[a] > 1)
    return target.any(axis=axes, keepdims=True)


class Average(Join):
    """The mean of its inputs."""

    def __init__(self):
        super().__init__(np.add)

    def value(self, node, sources):
        return super().value(node, sources) / len(sources)


class ScaledSum(Join):
    """`x + scale * residual`, as in InceptionResNetV2."""

    def __init__(self):
        super().__init__(np.add)

    def value(self, node, sources):
        return sources[0] + node.operation.scale * sources[1]


class Concatenate(Join):
    """Pieces side by side along channels, or (spatially) a meeting of equals."""

    def __init__(self):
        super().__init__(lambda a, b: np.where(a == b, a, np.nan))

    def operands(self, node):
        if len(node.inputs) != len(tree.flatten((node.args, node.kwargs))):
            raise NoRule("it takes constants")
        return node.inputs

    def sources(self, node, arrays, fill):
        axis = node.operation.axis % arrays[0].ndim
        if axis == 0:
            raise NoRule("it works along the batch axis")
        # The first arrays to come by tell; later ones may have lost an input.
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
        for other in set(range(arrays[0].ndim)) - {axis}:
            if any(array.shape[other] > 1 for array in arrays):
                size = node.inputs[0].shape[other]
                arrays = [expand(array, other, size) for array in arrays]
        return [[np.concatenate(arrays, axis=axis)] if apart else arrays]

    def needs(self, node, needed, values):
        if not node.memo["apart"]:
            return super().needs(node, needed, values)
        pulled = self.pull(node, needed, [value.shape for value in values])
        return [need if need.any() else None for need in pulled]

    def layout(self, node, kept, needed, read):
        kept = [
            np.ones((1,) * len(tensor.shape), bool) if r is None else k
            for tensor, k, r in zip(node.inputs, kept, read, strict=True)
        ]
        if not node.memo["apart"]:
            return super().layout(node, kept, needed, read)
        axis = node.operation.axis % kept[0].ndim
        present = [
            np.zeros_like(expand(k, axis, t.shape[axis])) if r is None else k
            for t, k, r in zip(node.inputs, kept, read, strict=True)
        ]
        out = self.sources(node, present, True)[0][0]
        if (hull(out) == out).all():
            return [
                k if r is not None else None for k, r in zip(kept, read, strict=True)
            ], [out]
        target = hull(np.broadcast_to(needed[0], out.shape))
        ends = np.cumsum([tensor.shape[axis] for tensor in node.inputs])[:-1]
        pieces = np.split(target, ends, axis=axis)
        return [
            piece if r is not None else None
            for piece, r in zip(pieces, read, strict=True)
        ], [target]


SUM = Join(np.add, additive=True)
DIFFERENCE = Join(np.subtract)
PRODUCT = Join(multiply, ties=True)
QUOTIENT = Join(divide, ties=True)
MAXIMUM = Join(np.maximum)
MINIMUM = Join(np.minimum)
