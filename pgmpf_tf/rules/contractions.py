"""Products: `EinsumDense`, `einsum`, `matmul`, and attention of projected tensors."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    any_along,
    everything,
    expand,
    kept_along,
    on_axis,
)
from pgmpf_tf.channels.flow import NO_LABEL, Channels, Flow, channels_on_axis
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Layout, Rule, Sizes, count
from pgmpf_tf.rules.elementwise import own_activation
from pgmpf_tf.rules.equations import Equation
from pgmpf_tf.rules.mixing import activation_of, bias_of, whole_kernel
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights, evaluate


class EinsumDense(Rule):
    """A kernel of any rank, of which each axis is kept, contracted or made.

    Filters are the slices along the first axis that is made (the heads of a projection
    to heads), or those along an axis that input and output share, where the input has
    channels there.
    """

    def equation(self, node: Node) -> Equation:
        """The equation of a call."""
        layer = node.operation
        kernel = whole_kernel(layer)
        ranks = (len(node.inputs[0].shape), len(kernel.shape))
        equation = Equation.parse(layer.equation, ranks)
        source, own = equation.operands
        if len(node.inputs) != 1:
            raise NoRule(f"it is called with {len(node.inputs)} tensors")
        if not set(source) <= {*own, *equation.result} or not (
            set(own) <= {*source, *equation.result}
        ):
            raise NoRule(f"its equation {layer.equation} sums up an axis")
        if source[0] != equation.result[0] or source[0] in own:
            raise NoRule("it moves the batch axis")
        bias = bias_of(layer)
        if bias is not None and _astray(bias.shape, node.outputs[0].shape):
            raise NoRule("Keras may add its bias along another axis")
        return equation

    @staticmethod
    def _outer(equation: Equation) -> tuple[str, ...]:
        """Symbols of the kernel that the result has."""
        return tuple(s for s in equation.result if s in equation.operands[1])

    @staticmethod
    def _inner(equation: Equation) -> tuple[str, ...]:
        """Symbols of the kernel that the input has."""
        return tuple(s for s in equation.operands[0] if s in equation.operands[1])

    def _vectors(
        self, node: Node, array: Array, symbols: tuple[str, ...], term: tuple[str, ...]
    ) -> dict[str, Array]:
        """What is true for anything along each of some axes of the kernel."""
        own = self.equation(node).operands[1]
        shape = node.operation._kernel.shape
        return {
            s: expand(kept_along(array, term.index(s)), 0, shape[own.index(s)])
            for s in symbols
        }

    def _meet(self, node: Node, weights: Weights, one: str, other: str) -> Array:
        """bool: which slices along two axes of the kernel meet in a weight."""
        own = self.equation(node).operands[1]
        kernel = node.operation._kernel
        if one == other:
            axis = own.index(one)
            if len(own) == 1:
                return np.diag(weights(kernel) != 0)
            alive = any_along(weights.connections(kernel, axis, axis - 1), 1)
            return np.diag(alive)
        return weights.connections(kernel, own.index(one), own.index(other))

    def _bias(self, node: Node, equation: Equation) -> dict[str, int]:
        """The axes of the bias by their symbols; where it does not vary, none."""
        bias = bias_of(node.operation)
        if bias is None:
            return {}
        rank = len(bias.shape)
        kernel = node.operation._kernel
        sizes = dict(zip(equation.operands[1], kernel.shape, strict=True))
        return {
            symbol: axis
            for axis, symbol in enumerate(equation.result[-rank:])
            if bias.shape[axis] > 1 or sizes.get(symbol) == 1
        }

    def folds(self, node: Node) -> bool:
        """Whether constant input channels can become a part of the bias."""
        return not node.shared

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        equation = self.equation(node)
        source, own = equation.operands
        channels, kernel = inputs[0], node.operation._kernel
        self._let_read(node, flow, equation, channels)
        passing = tuple(a for a, s in enumerate(source) if s not in own)
        labels = channels.labels.max(axis=passing, keepdims=True)
        flow.tie(channels.labels, labels)
        flow.tie_calls(kernel, labels)
        shared = [
            s
            for s in self._outer(equation)
            if s in source and labels.shape[source.index(s)] > 1
        ]
        if shared:
            unit = shared[0]
            others = tuple(a for a, s in enumerate(source) if s != unit)
            out = labels.max(axis=others)
            flow.tie(labels, on_axis(out, source.index(unit), labels.ndim))
            self._check_calls(node, flow, own.index(unit))
            flow.member(node, kernel, own.index(unit), "kernel", out)
        else:
            made = [s for s in self._outer(equation) if s not in source]
            sized = [s for s in made if kernel.shape[own.index(s)] > 1]
            if not made:
                rank = len(equation.result)
                whole = (1,) * rank
                return [Channels(np.full(whole, NO_LABEL), np.full(whole, np.nan))]
            unit = (sized or made)[0]
            self._check_calls(node, flow, own.index(unit))
            out = flow.filters(node, kernel, own.index(unit))
        return [self._labeled(node, flow, equation, unit, out)]

    def _let_read(
        self, node: Node, flow: Flow, equation: Equation, channels: Channels
    ) -> None:
        source, own = equation.operands
        varying = [a for a, size in enumerate(channels.labels.shape) if size > 1]
        symbols = [source[axis] for axis in varying]
        contracted = [s for s in symbols if s in own and s not in equation.result]
        if len(symbols) == 1 == len(contracted):
            vector = Channels(channels.labels.ravel(), channels.pruned.ravel())
            axis = own.index(contracted[0])
            kernel = node.operation._kernel
            flow.read(node, kernel, axis, vector, constants=self.folds(node))
        else:
            flow.mix(channels, f"'{node.path}'", constants=self.folds(node))

    @staticmethod
    def _check_calls(node: Node, flow: Flow, axis: int) -> None:
        known = flow.variables.get(id(node.operation._kernel))
        if known is not None and known.axis != axis:
            raise NoRule("its calls have their channels on different axes")

    def _labeled(
        self, node: Node, flow: Flow, equation: Equation, unit: str, out: Array
    ) -> Channels:
        layer = node.operation
        value = 0.0
        if bias_of(layer) is not None:
            axes = self._bias(node, equation)
            if unit in axes:
                flow.member(node, layer.bias, axes[unit], "bias", out)
            else:
                value = np.nan  # all filters have the same one
        try:
            value = evaluate(activation_of(layer), np.full(1, value))[0]
        except NoRule as error:
            flow.pin(out, str(error))
            value = np.nan
        rank = len(equation.result)
        axis = equation.result.index(unit)
        return channels_on_axis(out, np.full(out.shape, value), axis, rank)

    def _read(self, node: Node, values: Array) -> Array:
        """Which input entries must be there: the others are zero, or fold."""
        return np.isnan(values) if self.folds(node) else ~(values == 0)

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        equation = self.equation(node)
        inner, outer = self._inner(equation), self._outer(equation)
        there = self._read(node, values[0])
        alive = self._vectors(node, there, inner, equation.operands[0])
        rank = len(equation.result)
        dead = np.zeros((1,) * rank, bool)
        for r in outer:
            fed = [
                any_along(alive[s][:, None] & self._meet(node, weights, s, r), 0)
                for s in inner
            ]
            gone = ~functools.reduce(np.logical_and, fed) if fed else np.zeros(1, bool)
            if gone.any():
                axis = equation.result.index(r)
                dead = dead | on_axis(gone, axis, rank)
        if not dead.any():
            return [np.full((1,) * rank, np.nan)]
        bias = bias_of(node.operation)
        known = np.zeros((1,) * rank)
        if bias is not None:
            known = known + weights(bias)
        known = known + self._folded(
            node, weights, values[0], everything(values[0].ndim)
        )
        try:
            activation = activation_of(node.operation)
        except NoRule:
            return [np.full((1,) * rank, np.nan)]
        return [evaluate(activation, np.where(dead, known, np.nan))]

    def _folded(
        self, node: Node, weights: Weights, values: Array, gone: Array
    ) -> Array:
        """What constant inputs that are gone add: float64, of the result's rank.

        One zero if there are none.
        """
        equation = self.equation(node)
        source, own = equation.operands
        rank = len(equation.result)
        chosen = gone & ~np.isnan(values) & (values != 0)
        if not (self.folds(node) and chosen.any()):
            return np.zeros((1,) * rank)
        known = np.where(chosen, values, 0.0)
        for axis, symbol in enumerate(source):
            if symbol not in own:
                if not (known == known.take([0], axis=axis)).all():
                    raise NoRule("constants in it differ from place to place")
                known = known.take([0], axis=axis)
            else:
                known = expand(
                    known, axis, node.operation._kernel.shape[own.index(symbol)]
                )
        letters = {s: chr(ord("a") + i) for i, s in enumerate({*source, *own})}
        outer = self._outer(equation)
        terms = ["".join(letters[s] for s in term) for term in (source, own, outer)]
        kernel = weights(node.operation._kernel).astype("float64")
        found = np.einsum(f"{terms[0]},{terms[1]}->{terms[2]}", known, kernel)
        sizes = iter(found.shape)
        return found.reshape(
            [next(sizes) if s in outer else 1 for s in equation.result]
        )

    def _needed(
        self, node: Node, equation: Equation, needed: Array
    ) -> dict[str, Array]:
        vectors = self._vectors(node, needed, self._outer(equation), equation.result)
        try:
            activation_of(node.operation)
        except NoRule:  # it looks across channels, and needs all of them
            return {s: np.ones_like(vector) for s, vector in vectors.items()}
        return vectors

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        equation = self.equation(node)
        source, (value,) = equation.operands[0], values
        assert needed[0] is not None  # a call without any use is not asked
        wanted = self._needed(node, equation, needed[0])
        there = self._vectors(
            node, self._read(node, value), self._inner(equation), source
        )
        read = np.ones(value.shape, bool)
        for s, alive in there.items():
            if s in wanted:  # where it is gone, its output would be
                used = wanted[s]
            else:
                used = alive
                for r, vector in wanted.items():
                    used = used & any_along(self._meet(node, weights, s, r) & vector, 1)
            axis = source.index(s)
            if value.shape[axis] == 1:
                used = np.array([used.any()])
            read = read & on_axis(used, axis, value.ndim)
        return [read]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        equation = self.equation(node)
        (source, own), result = equation.operands, equation.result
        assert needed[0] is not None
        assert read[0] is not None
        wanted = self._needed(node, equation, needed[0])
        inputs, outputs = everything(len(source)), everything(len(result))
        whole = _is_product(kept[0], [source.index(s) for s in self._inner(equation)])
        for s in self._inner(equation):
            axis, size = source.index(s), node.operation._kernel.shape[own.index(s)]
            there = kept[0] if whole else read[0]
            vector = expand(kept_along(there, axis), 0, size)
            if s in wanted:
                vector = vector | wanted[s]
                wanted[s] = vector
            inputs = inputs & on_axis(vector, axis, len(source))
        for r, vector in wanted.items():
            outputs = outputs & on_axis(vector, result.index(r), len(result))
        return [inputs], [outputs]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        equation, layer = self.equation(node), node.operation
        (source, own), result = equation.operands, equation.result
        chosen = self._vectors(node, cut.input, self._inner(equation), source)
        chosen |= self._vectors(node, cut.outputs[0], self._outer(equation), result)
        kernel = weights(layer._kernel)
        for axis, s in enumerate(own):
            if not chosen[s].all():
                kernel = np.compress(chosen[s], kernel, axis=axis)
        new, config = {"_kernel": kernel}, self._output_shape(node, equation, chosen)
        bias = None if bias_of(layer) is None else weights(layer.bias)
        folded = self._folded(node, weights, cut.values[0], ~cut.input)
        if folded.size > 1 or folded.any():
            axes = {*self._bias(node, equation), *self._outer(equation)}
            names = layer.equation.replace(" ", "").split("->")[1].replace("...", "")
            config["bias_axes"] = "".join(s for s in names if s in axes)
            bias = (folded if bias is None else bias + folded).astype(kernel.dtype)
        if bias is not None:
            for axis, s in enumerate(result[len(result) - bias.ndim :]):
                if s in chosen and bias.shape[axis] > 1:
                    bias = np.compress(chosen[s], bias, axis=axis)
            new["bias"] = bias
            sizes = [
                int(chosen[s].sum()) if s in chosen else size
                for s, size in zip(result, node.outputs[0].shape, strict=True)
            ]
            if _astray(bias.shape, sizes):
                raise NoRule("Keras would add its bias along another axis")
        return narrower(node, config, new, activation=own_activation(layer))

    def _output_shape(
        self, node: Node, equation: Equation, chosen: dict[str, Array]
    ) -> dict[str, Any]:
        shape = node.operation.get_config()["output_shape"]
        sizes = [shape] if isinstance(shape, int) else list(shape)
        result = equation.result[1:]
        for place, symbol in zip(
            range(-1, -len(sizes) - 1, -1), reversed(result), strict=False
        ):
            if symbol in chosen:
                sizes[place] = int(chosen[symbol].sum())
        return {"output_shape": tuple(sizes)}

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        """Each entry of the input meets each kernel entry along the kernel's own axes.

        The output's shape would not do: EinsumDense leaves sizes in it unknown.
        """
        source, own = self.equation(node).operands
        shape = sizes.weights.get("_kernel", node.operation._kernel.shape)
        made = [n for s, n in zip(own, shape, strict=True) if s not in source]
        return count(sizes.inputs[0][1:]) * count(tuple(made))


def _astray(bias: Sequence[int], result: Sequence[int | None]) -> bool:
    """Whether `keras.ops.add` may take a bias for one along another axis.

    On TensorFlow it takes what has one long axis for a bias of the last axis if that
    is as long, or else of the second one, wherever the long axis is.
    """
    long = [axis for axis, size in enumerate(bias) if size > 1]
    if len(long) != 1:
        return False
    size, axis = bias[long[0]], len(result) - len(bias) + long[0]
    taken = next((a for a in (len(result) - 1, 1) if result[a] == size), axis)
    return taken != axis


def _is_product(kept: Array, axes: list[int]) -> bool:
    """Whether a choice is one of whole slices along some axes only."""
    vectors = [on_axis(kept_along(kept, axis), axis, kept.ndim) for axis in axes]
    product = functools.reduce(np.logical_and, vectors, everything(kept.ndim))
    return bool((kept == product).all())
