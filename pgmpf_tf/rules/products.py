"""Operations that multiply tensors with each other: `einsum`, `matmul`, attention."""

from __future__ import annotations

import abc
import math
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    everything,
    expand,
    kept_along,
    level,
    on_axis,
    unknown,
)
from pgmpf_tf.channels.flow import NO_LABEL, Channels, Flow
from pgmpf_tf.channels.nodes import Node, Tensor
from pgmpf_tf.rules.base import Layout, Rule, Sizes, count
from pgmpf_tf.rules.equations import Equation, Product
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights


class Contraction(Rule):
    """A product of tensors, one of which may be a constant."""

    @abc.abstractmethod
    def equation(self, node: Node, operands: list[Any]) -> Equation:
        """The equation of a call."""

    @staticmethod
    def _operands(node: Node) -> list[Any]:
        """What is multiplied, in order: `Tensor`s, and constants as arrays."""
        operands = [*node.args, *node.kwargs.values()]
        if any(isinstance(x, keras.Variable) for x in operands):
            raise NoRule("it uses a variable outside of any layer")
        return [
            x if isinstance(x, Tensor) else np.asarray(keras.ops.convert_to_numpy(x))
            for x in operands
        ]

    def _product(self, node: Node) -> Product:
        operands = self._operands(node)
        return Product(
            self.equation(node, operands), [tuple(x.shape) for x in operands]
        )

    def _with_constants(self, node: Node, arrays: list[Array]) -> list[Array]:
        """Choices of all operands: constants are there as wholes."""
        left = iter(arrays)
        return [
            next(left) if isinstance(x, Tensor) else everything(x.ndim)
            for x in self._operands(node)
        ]

    def _without_constants(self, node: Node, arrays: list[Array]) -> list[Array]:
        pairs = zip(self._operands(node), arrays, strict=True)
        return [array for x, array in pairs if isinstance(x, Tensor)]

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        left = iter(inputs)
        operands = []
        for x in self._operands(node):
            if isinstance(x, Tensor):
                operands.append(next(left))
            else:
                nothing = np.full((1,) * x.ndim, NO_LABEL)
                operands.append(Channels(nothing, unknown(x.ndim)))
        return [self._product(node).label(flow, operands, f"'{node.path}'")]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        there = self._with_constants(node, [~(value == 0) for value in values])
        return [np.where(self._product(node).alive(there), np.nan, 0.0)]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        assert needed[0] is not None  # a call without any use is not asked
        there = self._with_constants(node, [~(value == 0) for value in values])
        read = self._product(node).read(there, needed[0])
        return [*self._without_constants(node, read)]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        wanted = [array for array in read if array is not None]
        chosen, out = self._product(node).agree(
            self._with_constants(node, kept),
            self._with_constants(node, wanted),
            [isinstance(x, Tensor) for x in self._operands(node)],
        )
        return [*self._without_constants(node, chosen)], [out]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        operands = self._operands(node)
        if len(node.inputs) == len(operands):
            return narrower(node)
        terms = self._product(node).equation.operands
        chosen = {
            symbol: kept_along(kept, axis)
            for kept, term in zip(
                self._with_constants(node, [k for k in cut.inputs if k is not None]),
                terms,
                strict=True,
            )
            for axis, symbol in enumerate(term)
            if kept.shape[axis] > 1
        }
        for axis, symbol in enumerate(self._product(node).equation.result):
            if cut.outputs[0].shape[axis] > 1:
                chosen.setdefault(symbol, kept_along(cut.outputs[0], axis))
        args: list[Any] = []
        for x, term in zip(operands, terms, strict=True):
            if not isinstance(x, Tensor):
                for axis, symbol in enumerate(term):
                    if symbol in chosen and x.shape[axis] > 1:
                        x = np.compress(chosen[symbol], x, axis=axis)
            args.append(x)
        return narrower(node, arguments=(tuple(args), {}))

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        """One for each combination of the equation's axes, the batch apart."""
        operands, left = self._operands(node), iter(sizes.inputs)
        shapes = [next(left) if isinstance(x, Tensor) else x.shape for x in operands]
        product = Product(self.equation(node, operands), shapes)
        batch = product.equation.result[0]
        left_sizes = (size for s, size in product.sizes.items() if s != batch)
        return count(tuple(left_sizes))


class Einsum(Contraction):
    """`ops.einsum` of any number of operands."""

    def equation(self, node: Node, operands: list[Any]) -> Equation:
        ranks = [len(x.shape) for x in operands]
        return Equation.parse(node.operation.subscripts, ranks)


class Matmul(Contraction):
    """`ops.matmul`, of batches of matrices."""

    def equation(self, node: Node, operands: list[Any]) -> Equation:
        one, other = (tuple(x.shape) for x in operands)
        return Equation.matmul(one, other)


class DotProductAttention(Rule):
    """`ops.dot_product_attention`: scores, softmax along the keys, a weighted sum.

    A head whose values are zero is zero, whatever its scores are.
    """

    _SCORES = "btnh,bsnh->bnts"
    _SUM = "bnts,bsnd->btnd"

    def _parts(self, node: Node) -> dict[str, int]:
        """Which of the node's inputs is the query, the key, the value and the bias."""
        names = ("query", "key", "value", "bias", "mask", "scale")
        named = dict(zip(names, node.args, strict=False)) | node.kwargs
        tensors = [n for n, x in named.items() if isinstance(x, Tensor)]
        places = {n: place for place, n in enumerate(n for n in tensors if n != "mask")}
        projected = {"query", "key", "value"}
        if len(places) != len(node.inputs) or not projected <= {*places}:
            raise NoRule("it is called in an unusual way")
        heads = {node.inputs[places[n]].shape[2] for n in projected}
        if len(heads) > 1:
            raise NoRule("it has fewer heads of keys than of queries")
        if "scale" in places:
            raise NoRule("its scale is computed")
        return places

    def _products(self, node: Node) -> tuple[Product, Product]:
        query, key, value = (
            node.inputs[self._parts(node)[name]].shape
            for name in ("query", "key", "value")
        )
        scores = (query[0], query[2], query[1], key[1])
        return (
            Product(Equation.parse(self._SCORES, (4, 4)), [query, key]),
            Product(Equation.parse(self._SUM, (4, 4)), [scores, value]),
        )

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        places, (first, second) = self._parts(node), self._products(node)
        reader = f"'{node.path}'"
        query, key, value = (inputs[places[n]] for n in ("query", "key", "value"))
        scores = first.label(flow, [query, key], reader)
        if "bias" in places:
            bias = inputs[places["bias"]].labels
            if bias.size > 1 and bias.shape == scores.labels.shape:
                flow.tie(bias, scores.labels)
            else:
                flow.pin(bias, f"read by {reader} as a bias")
        weights = Channels(scores.labels, np.full(scores.labels.shape, np.nan))
        return [second.label(flow, [weights, value], reader)]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        value = values[self._parts(node)["value"]]
        there = [everything(4), ~(value == 0)]
        return [np.where(self._products(node)[1].alive(there), np.nan, 0.0)]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        places, (first, second) = self._parts(node), self._products(node)
        assert needed[0] is not None
        there = {name: ~(values[place] == 0) for name, place in places.items()}
        _, value = second.read([everything(4), there["value"]], needed[0])
        used = kept_along(needed[0], 2)[None, :, None, None]
        query, key = first.read([there["query"], there["key"]], used)
        read = {"query": query, "key": key, "value": value}
        if "bias" in places:
            read["bias"] = np.ones(there["bias"].shape, bool)
            if there["bias"].shape[1] == used.size:
                read["bias"] = np.broadcast_to(used, there["bias"].shape).copy()
        return [read[name] for name in places]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        places = self._parts(node)
        equation = Equation.parse("btnh,bsnh,bsnd->btnd", (4, 4, 4))
        names = ("query", "key", "value")
        shapes = [node.inputs[places[name]].shape for name in names]
        wanted = [r for name in names if (r := read[places[name]]) is not None]
        chosen, out = Product(equation, shapes).agree(
            [kept[places[name]] for name in names], wanted
        )
        sizes = [kept_along(array, 3) for array in (chosen[0], chosen[2])]
        full = [
            expand(vector, 0, shape[3])
            for vector, shape in zip(sizes, (shapes[0], shapes[2]), strict=True)
        ]
        # Keras takes the output to be as wide as the query.
        inner, outer = level(full)
        if (inner.sum() != full[0].sum()) or (outer.sum() != full[1].sum()):
            chosen = [
                on_axis(kept_along(array, 2), 2, 4) & on_axis(vector, 3, 4)
                for array, vector in zip(chosen, (inner, inner, outer), strict=True)
            ]
            out = chosen[2]
        required = dict(zip(names, chosen, strict=True))
        if "bias" in places:
            heads = kept_along(out, 2)[None, :, None, None]
            bias = node.inputs[places["bias"]]
            required["bias"] = heads if bias.shape[1] != 1 else everything(4)
        return [required[name] for name in places], [out]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        places = self._parts(node)
        query = cut.inputs[places["query"]]
        assert query is not None
        names = ("query", "key", "value", "bias", "mask", "scale")
        named = dict(zip(names, node.args, strict=False)) | node.kwargs
        if named.get("scale") is None and not kept_along(query, 3).all():
            size = node.inputs[places["query"]].shape[3]
            assert size is not None
            named["scale"] = 1 / math.sqrt(size)
        for name in ("bias", "mask"):
            x = named.get(name)
            if x is not None and not isinstance(x, Tensor) and np.ndim(x) == 4:
                heads = kept_along(cut.outputs[0], 2)
                array = np.asarray(keras.ops.convert_to_numpy(x))
                if array.shape[1] > 1 and not heads.all():
                    named[name] = np.compress(heads, array, axis=1)
        return narrower(node, arguments=((), named))

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        """Scores, and the weighted sum."""
        places = self._parts(node)
        query, key, value = (sizes.inputs[places[n]] for n in ("query", "key", "value"))
        pairs = count((query[1], key[1], query[2]))
        return pairs * (count(query[3:]) + count(value[3:]))
