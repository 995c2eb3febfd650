"""Embeddings: their width is one of channels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import (
    Array,
    any_along,
    everything,
    expand,
    kept_along,
    on_axis,
    unknown,
)
from pgmpf_tf.channels.flow import Channels, Flow, channels_on_axis, values_on_axis
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Layout, Rule, Sizes, count
from pgmpf_tf.rules.channelwise import present_along
from pgmpf_tf.rules.mixing import whole_kernel
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights


class Embedding(Rule):
    """Each token has a row of the table; a column of it is a channel."""

    def table(self, node: Node) -> keras.Variable:
        """The table."""
        return whole_kernel(node.operation, "_embeddings")

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        flow.pin(inputs[0].labels, f"'{node.path}' looks them up")
        labels, rank = (
            flow.filters(node, self.table(node), 1),
            len(node.outputs[0].shape),
        )
        return [channels_on_axis(labels, np.zeros(labels.shape), rank - 1, rank)]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        used = any_along(weights.connections(self.table(node), 0, 1), 0)
        rank = len(node.outputs[0].shape)
        return [on_axis(np.where(used, np.nan, 0.0), rank - 1, rank)]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        return [np.ones(value.shape, bool) for value in values]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        assert needed[0] is not None  # a call without any use is not asked
        rank, width = needed[0].ndim, self.table(node).shape[1]
        out = expand(kept_along(needed[0], rank - 1), 0, width)
        return [everything(len(node.inputs[0].shape))], [on_axis(out, rank - 1, rank)]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        out = kept_along(cut.outputs[0], -1)
        return self.narrow(node, weights, out)

    def narrow(self, node: Node, weights: Weights, width: Array) -> Rebuilt:
        """The layer with some of the columns."""
        table = np.compress(width, weights(self.table(node)), axis=1)
        return narrower(node, {"output_dim": int(width.sum())}, {"_embeddings": table})

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        return 0


class ReversibleEmbedding(Embedding):
    """An embedding that also scores all tokens: `reverse=True` reads its width."""

    @staticmethod
    def _reverse(node: Node) -> bool:
        given = node.kwargs.get("reverse", (*node.args, False, False)[1])
        return bool(given)

    @staticmethod
    def _scores(node: Node) -> tuple[keras.Variable, int]:
        """What the width is multiplied by, and its axis there."""
        layer = node.operation
        if layer.tie_weights:
            return layer._embeddings, 1
        return layer.reverse_embeddings, 0

    def role(self, node: Node, side: str, place: int) -> tuple[str, int]:
        reads_width = (side == "in") == self._reverse(node)
        return ("width" if reads_width else side), place

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        if not self._reverse(node):
            return super().label(node, flow, inputs)
        width = flow.filters(node, self.table(node), 1)
        axis = len(node.inputs[0].shape) - 1
        flow.mix(inputs[0], f"'{node.path}'")
        flow.tie(flow.vector(inputs[0], axis)[0], width)
        tokens = flow.fresh(1).reshape((1,) * len(node.outputs[0].shape))
        flow.pin(tokens, f"'{node.path}' scores all tokens")
        return [Channels(tokens, unknown(tokens.ndim))]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        if not self._reverse(node):
            return super().constants(node, weights, values)
        return [unknown(len(node.outputs[0].shape))]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        if not self._reverse(node):
            return super().needs(node, weights, needed, values)
        variable, axis = self._scores(node)
        (value,) = values
        used = any_along(weights.connections(variable, axis, 1 - axis), 1)
        used = used & ~(values_on_axis(value, value.ndim - 1) == 0)
        if value.shape[-1] == 1:
            used = np.array([used.any()])
        read = on_axis(used, value.ndim - 1, value.ndim)
        return [np.broadcast_to(read, value.shape).copy()]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        if not self._reverse(node):
            return super().layout(node, kept, needed, read)
        assert read[0] is not None
        rank, width = len(node.inputs[0].shape), self.table(node).shape[1]
        present = present_along(kept[0], read[0], rank - 1, width)
        return [on_axis(present, rank - 1, rank)], [everything(rank)]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        width = kept_along(cut.input if self._reverse(node) else cut.outputs[0], -1)
        return self.narrow(node, weights, width)

    def narrow(self, node: Node, weights: Weights, width: Array) -> Rebuilt:
        new: dict[str, Any] = {
            "_embeddings": np.compress(width, weights(self.table(node)), axis=1)
        }
        if not node.operation.tie_weights:
            reverse = weights(node.operation.reverse_embeddings)
            new["reverse_embeddings"] = np.compress(width, reverse, axis=0)
        return narrower(node, {"output_dim": int(width.sum())}, new)

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        if not self._reverse(node):
            return 0
        return count(sizes.inputs[0][1:]) * node.operation.input_dim
