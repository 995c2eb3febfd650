"""Operations whose output entries are computed from known entries of the inputs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from pgmpf_tf.channels.arrays import Array, whole_slices
from pgmpf_tf.channels.flow import NO_LABEL, Channels, Flow
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Layout, Rule
from pgmpf_tf.rules.weights import Weights


class Entrywise(Rule):
    """Every output entry is computed from the same entries of some inputs.

    Subclasses say which (`sources`), and what comes out where all of those are
    constant (`value`). Everything else follows.
    """

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        """Move channel arrays of the inputs as the operation moves the data.

        Args:
            node: the call.
            arrays: one channel array per input tensor: labels, values or choices.
            fill: what stands in entries that come from no input.

        Returns:
            For each output tensor the arrays that are combined in it, which broadcast
            against each other.
        """
        return [[array] for array in arrays]

    def value(self, node: Node, sources: list[Array]) -> Array:
        """Values of one output's entries from the values that are combined there."""
        return sources[0]

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        labels = self.sources(node, [c.labels for c in inputs], NO_LABEL)
        values = self.sources(node, [c.pruned for c in inputs], 0.0)
        return [
            self.combine(node, flow, labels_of, values_of)
            for labels_of, values_of in zip(labels, values, strict=True)
        ]

    def combine(
        self, node: Node, flow: Flow, labels: list[Array], values: list[Array]
    ) -> Channels:
        """The channels of one output from what is combined in it."""
        value = self.value(node, values)
        joined = flow.join(labels, self._zeros(node, labels, values))
        shape = np.broadcast_shapes(joined.shape, value.shape)
        joined, value = np.broadcast_to(joined, shape), np.broadcast_to(value, shape)
        unknown = np.isnan(value)
        if unknown.any():
            infinite = [
                np.broadcast_to(flow.infinite(label) & np.isnan(known), shape)
                for label, known in zip(labels, values, strict=True)
            ]
            if any(part.any() for part in infinite) or self._may_diverge(node, values):
                flow.may_be_infinite(joined[unknown])
        return Channels(joined, value)

    def _may_diverge(self, node: Node, values: list[Array]) -> bool:
        """Whether something infinite may come out where nothing infinite goes in.

        The unknown is tried as -1, 0 and 1: there is no pole elsewhere in what Keras
        has, and a layer of one's own that has one would not train either.
        """
        tries = [(-1.0, 0.0, 1.0) if np.isnan(v).any() else (0.0,) for v in values]
        return any(
            np.isnan(
                self.value(
                    node,
                    [
                        np.where(np.isnan(value), number, value)
                        for value, number in zip(values, numbers, strict=True)
                    ],
                )
            ).any()
            for numbers in itertools.product(*tries)
        )

    def _zeros(
        self, node: Node, labels: list[Array], values: list[Array]
    ) -> list[bool]:
        """For each source whether the others make zeros, whatever it holds."""
        if len({label.shape for label in labels}) == 1:
            return [False] * len(labels)
        found = []
        for place in range(len(labels)):
            without = [*values]
            without[place] = np.full(values[place].shape, np.nan)
            found.append(bool((self.value(node, without) == 0).all()))
        return found

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        return [self.value(node, these) for these in self.sources(node, values, 0.0)]

    def pull(
        self, node: Node, needed: list[Array | None], shapes: list[tuple[int, ...]]
    ) -> list[Array]:
        """Input entries from which the needed output entries are computed."""
        ids, start = [], 0
        for shape in shapes:
            size = int(np.prod(shape))
            ids.append(np.arange(start, start + size).reshape(shape))
            start += size
        found = np.zeros(start, bool)
        sources = self.sources(node, ids, NO_LABEL)
        for wanted, these in zip(needed, sources, strict=True):
            if wanted is None:
                continue
            for source in these:
                both = np.broadcast_shapes(source.shape, wanted.shape)
                hit = np.broadcast_to(source, both)[np.broadcast_to(wanted, both)]
                found[hit[hit >= 0]] = True
        return [whole_slices(found[array]) for array in ids]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        return [*self.pull(node, needed, [value.shape for value in values])]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        """Pass through what is there, if that is whole slices of every output."""
        outputs = [these[0] for these in self.sources(node, kept, True)]
        if all((whole_slices(out) == out).all() and out.any() for out in outputs):
            return [*kept], outputs
        full = [np.ones_like(k) for k in kept]
        return [*full], [these[0] for these in self.sources(node, full, True)]
