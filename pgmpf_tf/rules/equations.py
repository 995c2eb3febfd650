"""Products of tensors as equations: which axis is kept, contracted or made."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    Shape,
    expand,
    kept_along,
    on_axis,
    whole_slices,
)
from pgmpf_tf.channels.flow import NO_LABEL, Channels, Flow


@dataclass(frozen=True)
class Equation:
    """`abc,cd->abd`: one symbol for each axis of each operand and of the result.

    Attributes:
        operands: the symbols of each operand.
        result: the symbols of the result.
    """

    operands: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]

    def __post_init__(self) -> None:
        known = {symbol for operand in self.operands for symbol in operand}
        for symbols in (*self.operands, self.result):
            if len(set(symbols)) < len(symbols):
                raise NoRule("its equation takes a diagonal")
        if not set(self.result) <= known:
            raise NoRule("its equation is not known")

    @classmethod
    def parse(cls, text: str, ranks: Sequence[int]) -> Equation:
        """An equation as `einsum` takes it.

        Args:
            text: the equation, perhaps with an ellipsis at the left of a term.
            ranks: the ranks of the operands.

        Raises:
            NoRule: it is not of this form.
        """
        left, arrow, right = text.replace(" ", "").partition("->")
        terms = left.split(",")
        if not arrow or len(terms) != len(ranks):
            raise NoRule(f"its equation {text} has no result")
        if any("..." in term[1:] for term in (*terms, right)):
            raise NoRule(f"its equation {text} has an ellipsis in its midst")
        hidden = [
            rank - len(term.replace("...", ""))
            for term, rank in zip(terms, ranks, strict=True)
        ]
        most = max(
            [n for n, term in zip(hidden, terms, strict=True) if "..." in term],
            default=0,
        )

        def symbols(term: str, number: int) -> tuple[str, ...]:
            if not term.startswith("..."):
                return tuple(term)
            return (*(f"_{place}" for place in range(most - number, most)), *term[3:])

        return cls(
            tuple(symbols(t, n) for t, n in zip(terms, hidden, strict=True)),
            symbols(right, most),
        )

    @classmethod
    def matmul(cls, one: Shape, other: Shape) -> Equation:
        """The equation of a matrix product of tensors of these shapes."""
        if min(len(one), len(other)) < 2:
            raise NoRule("it multiplies by a vector")
        rank = max(len(one), len(other))
        terms: list[list[str]] = [[], []]
        result: list[str] = []
        for place in range(-rank, -2):
            sizes = [s[place] if -place <= len(s) else 0 for s in (one, other)]
            broad = sizes[0] if sizes[1] in (0, 1) else sizes[1]
            for number, size in enumerate(sizes):
                if size != 0:  # what is stretched has an axis of its own
                    same = size == broad or None in (size, broad)
                    terms[number].append(f"{place}" if same else f"{place}/{number}")
            result.append(f"{place}")
        terms[0] += ["row", "inner"]
        terms[1] += ["inner", "column"]
        return cls((tuple(terms[0]), tuple(terms[1])), (*result, "row", "column"))


class Product:
    """Channel arrays of the operands of a product, and of its result.

    Args:
        equation: what is multiplied.
        shapes: the shapes of the operands.
    """

    def __init__(self, equation: Equation, shapes: Sequence[Shape]) -> None:
        self.equation = equation
        self.symbols = tuple(
            dict.fromkeys(
                (*equation.result, *(s for term in equation.operands for s in term))
            )
        )
        self.sizes: dict[str, int | None] = {}
        for term, shape in zip(equation.operands, shapes, strict=True):
            for symbol, size in zip(term, shape, strict=True):
                if self.sizes.get(symbol) is None:
                    self.sizes[symbol] = size

    def _over_all(self, array: Array, term: tuple[str, ...]) -> Array:
        """An array with one axis for each symbol, in the order of `symbols`."""
        places = [term.index(s) for s in self.symbols if s in term]
        shape = iter(np.transpose(array, places).shape)
        full = [next(shape) if s in term else 1 for s in self.symbols]
        return np.transpose(array, places).reshape(full)

    def _back(
        self, array: Array, term: tuple[str, ...], shape: tuple[int, ...]
    ) -> Array:
        """What is true for anything along the other axes, in an operand's shape."""
        others = tuple(i for i, s in enumerate(self.symbols) if s not in term)
        found = array.any(axis=others)
        left = [s for s in self.symbols if s in term]
        found = np.transpose(found, [left.index(s) for s in term])
        thin = tuple(
            a
            for a, (have, want) in enumerate(zip(found.shape, shape, strict=True))
            if want == 1 and have > 1
        )
        return np.broadcast_to(found.any(axis=thin, keepdims=True), shape)

    def alive(self, alive: Sequence[Array]) -> Array:
        """Which entries of the result are not zero, of those of the operands."""
        joint, result = self._joint(alive), self.equation.result
        rank = len(result)  # its symbols come first
        return self._back(joint, result, joint.shape[:rank])

    def _joint(self, alive: Sequence[Array]) -> Array:
        spread = [
            self._over_all(array, term)
            for array, term in zip(alive, self.equation.operands, strict=True)
        ]
        return np.asarray(functools.reduce(np.logical_and, spread))

    def read(self, alive: Sequence[Array], needed: Array) -> list[Array]:
        """Which entries of each operand are needed for those of the result."""
        wanted = self._over_all(needed, self.equation.result)
        joint = self._joint(alive) & wanted
        return [
            whole_slices(self._back(joint, term, array.shape))
            for array, term in zip(alive, self.equation.operands, strict=True)
        ]

    def agree(
        self,
        kept: Sequence[Array],
        read: Sequence[Array],
        tensors: Sequence[bool] | None = None,
    ) -> tuple[list[Array], Array]:
        """Choices of operands that fit each other, and of the result.

        What is there stays if all that have an axis hold the same of it.

        Args:
            kept: what the operands hold.
            read: what is read of them.
            tensors: which of them are tensors, and no constants; None: all.
        """
        terms = self.equation.operands
        asked = [
            (k, r, term)
            for k, r, term, is_tensor in zip(
                kept, read, terms, tensors or [True] * len(terms), strict=True
            )
            if is_tensor
        ]
        chosen = {s: self._chosen(s, asked) for s in self.symbols}

        def choice(term: tuple[str, ...]) -> Array:
            rank = len(term)
            vectors = [on_axis(chosen[s], a, rank) for a, s in enumerate(term)]
            return np.asarray(functools.reduce(np.logical_and, vectors))

        return [choice(term) for term in terms], choice(self.equation.result)

    def _chosen(
        self, symbol: str, asked: Sequence[tuple[Array, Array, tuple[str, ...]]]
    ) -> Array:
        there, wanted = [np.ones(1, bool)], []
        for kept, read, term in asked:
            if symbol in term:
                there.append(kept_along(kept, term.index(symbol)))
                wanted.append(kept_along(read, term.index(symbol)))
        if not wanted:
            return there[0]
        if any(len(vector) > 1 for vector in there + wanted):
            size = self.sizes[symbol]
            there = [expand(vector, 0, size) for vector in there[1:]]
            wanted = [expand(vector, 0, size) for vector in wanted]
        union = np.any(wanted, axis=0)
        same = all((vector == there[0]).all() for vector in there)
        return there[0] if same and there[0][union].all() else union

    def label(self, flow: Flow, operands: Sequence[Channels], reader: str) -> Channels:
        """Lets labels flow through the product.

        Where labels vary along an axis of the result, they flow there, and what varies
        along contracted axes besides is tied: the heads of queries and keys. Where
        they vary along contracted axes alone, these are tied to each other.
        """
        terms = self.equation.operands
        kept = []
        for channels, term in zip(operands, terms, strict=True):
            sizes = zip(term, channels.labels.shape, strict=True)
            varying = {symbol for symbol, size in sizes if size > 1}
            kept.append(varying & set(self.equation.result))
        first = self.equation.result[0]
        if any(first in symbols for symbols in kept):
            raise NoRule("it moves the batch axis")
        labels = [
            self._over_all(channels.labels, term)
            for channels, term in zip(operands, terms, strict=True)
        ]
        if not any(kept):
            return self._contracted(flow, operands, labels, reader)
        zero = [bool((c.pruned == 0)[c.labels >= 0].all()) for c in operands]
        order = sorted(
            range(len(operands)),
            key=lambda i: (bool(kept[i]) and zero[i], len(kept[i])),
        )
        main = order[-1]
        result = self._whole(flow, labels[main])
        for place, channels in enumerate(operands):
            if place == main:
                continue
            comparable = kept[place] <= kept[main] or kept[main] <= kept[place]
            if kept[place] and comparable:  # queries go with the keys they share
                flow.tie(result, self._whole(flow, labels[place]))
            elif kept[place]:
                flow.pin(channels.labels, f"{reader} multiplies it by other channels")
            else:
                flow.mix(channels, reader)
        value = (
            0.0
            if any(zero[p] and kept[p] == kept[main] for p in range(len(operands)))
            else np.nan
        )
        out = self._in_result(result)
        return Channels(out, np.where(out >= 0, value, np.nan))

    def _whole(self, flow: Flow, labels: Array) -> Array:
        """Labels that are the same all along the contracted axes."""
        axes = tuple(
            i for i, s in enumerate(self.symbols) if s not in self.equation.result
        )
        first = labels.max(axis=axes, keepdims=True)
        flow.tie(labels, first)
        return first

    def _in_result(self, labels: Array) -> Array:
        rank = len(self.equation.result)  # they come first in `symbols`
        return labels.reshape(labels.shape[:rank])

    def _contracted(
        self,
        flow: Flow,
        operands: Sequence[Channels],
        labels: list[Array],
        reader: str,
    ) -> Channels:
        varying = [array for array in labels if array.size > 1]
        for channels in operands:
            flow.mix(channels, reader)
        for array in varying[1:]:
            flow.tie(varying[0], array)
        rank = len(self.equation.result)
        return Channels(np.full((1,) * rank, NO_LABEL), np.full((1,) * rank, np.nan))
