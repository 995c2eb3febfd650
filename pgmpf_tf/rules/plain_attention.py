"""`Attention` and `AdditiveAttention`: attention without projections."""

from __future__ import annotations

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array, NoRule, expand, kept_along, on_axis
from pgmpf_tf.channels.flow import Channels, Flow, channels_on_axis
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Layout, Rule, Sizes, count
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights

_OVERRIDABLE = ("_calculate_scores", "_calculate_score_mask", "_apply_scores")


class PlainAttention(Rule):
    """Scores are sums over the channels that query and key share.

    Such a channel goes from both, with its entry of the scale if there is one for each:
    then it adds nothing to any score. Channels of the value pass through.
    """

    @staticmethod
    def _places(node: Node) -> tuple[int, int, int]:
        """Which inputs are the query, the key and the value."""
        if len(node.outputs) != 1:
            raise NoRule("it returns its scores")
        if len(node.inputs) not in (2, 3) or len(node.inputs[0].shape) != 3:
            raise NoRule("it is called in an unusual way")
        additive = isinstance(node.operation, keras.layers.AdditiveAttention)
        stock = keras.layers.AdditiveAttention if additive else keras.layers.Attention
        kind = type(node.operation)
        if any(getattr(kind, n) is not getattr(stock, n) for n in _OVERRIDABLE):
            raise NoRule("its class computes attention in its own way")
        return 0, len(node.inputs) - 1, 1

    @staticmethod
    def _scale(node: Node) -> keras.Variable | None:
        """The scale, if it has an entry for each channel."""
        scale = getattr(node.operation, "scale", None)
        return scale if scale is not None and len(scale.shape) == 1 else None

    @staticmethod
    def _multiplies(node: Node) -> bool:
        """Whether scores are products: what is zero on one side counts for nothing."""
        layer = node.operation
        additive = isinstance(layer, keras.layers.AdditiveAttention)
        return not additive and layer.score_mode == "dot"

    @staticmethod
    def _vector(node: Node, array: Array, place: int) -> Array:
        """What holds for a channel of an input at any position."""
        return expand(kept_along(array, 2), 0, node.inputs[place].shape[-1])

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        query, key, value = self._places(node)
        found = [flow.vector(channels, 2) for channels in inputs]
        for place in (query, key):
            flow.mix(channels_on_axis(*found[place], 2, 3), f"'{node.path}'")
        flow.tie(found[query][0], found[key][0])
        scale = self._scale(node)
        if scale is not None:
            flow.member(node, scale, 0, "scale", found[query][0])
        labels, pruned = found[value]
        return [channels_on_axis(labels, np.where(pruned == 0, 0.0, np.nan), 2, 3)]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        value = values[self._places(node)[2]]
        zero = (value == 0).all(axis=1, keepdims=True)
        return [np.where(zero, 0.0, np.nan)]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        query, key, value = self._places(node)
        assert needed[0] is not None  # a call without any use is not asked
        alive = [self._vector(node, ~(v == 0), place) for place, v in enumerate(values)]
        if self._multiplies(node):
            scored = alive[query] & alive[key]
        else:
            scored = alive[query] | alive[key]
        scale = self._scale(node)
        if scale is not None:
            scored = scored & (weights(scale) != 0)
        wanted = self._vector(node, needed[0], value)
        read = [scored] * len(values)
        read[value] = wanted & alive[value] | (scored if key == value else False)
        return [on_axis(vector, 2, 3) for vector in read]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        query, key, value = self._places(node)
        wanted = [
            self._vector(node, array, place)
            for place, array in enumerate(read)
            if array is not None
        ]
        there = [self._vector(node, array, place) for place, array in enumerate(kept)]
        both = wanted[query] | wanted[key]
        if (there[query] == there[key]).all() and not (both & ~there[key]).any():
            both = there[key]
        chosen = [both] * len(kept)
        if key != value:
            chosen[value] = there[value]
        arrays = [on_axis(vector, 2, 3) for vector in chosen]
        return [*arrays], [arrays[value]]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        scale = self._scale(node)
        if scale is None:
            return narrower(node)
        query = cut.inputs[0]
        assert query is not None
        return narrower(
            node, {}, {"scale": weights(scale)[self._vector(node, query, 0)]}
        )

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        """Scores, and the weighted sum."""
        query, key, value = (sizes.inputs[place] for place in self._places(node))
        return count((query[1], key[1])) * (count(query[2:]) + count(value[2:]))
