"""Attention layers: a head is a unit.

What a head adds to the output is its weighted sum of values, so that a head whose value
kernel and bias are zero adds nothing, whatever its queries and keys are.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    any_along,
    everything,
    expand,
    kept_along,
    level,
    on_axis,
    unknown,
)
from pgmpf_tf.channels.flow import Channels, Flow, channels_on_axis, values_on_axis
from pgmpf_tf.channels.nodes import Node, Tensor, part_of
from pgmpf_tf.rules.base import Layout, Rule, Sizes, count
from pgmpf_tf.rules.channelwise import present_along
from pgmpf_tf.rules.mixing import whole_kernel
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights

_QUERY, _KEY, _VALUE = "_query_dense", "_key_dense", "_value_dense"
_GATE, _OUTPUT = "_gate_dense", "_output_dense"
_STREAMS = ("query", "value", "key")
_OVERRIDABLE = (
    "build",
    "_build_attention",
    "_compute_attention",
    "_compute_attention_mask",
    "_make_output_dense",
    "_masked_softmax",
)


class MultiHeadAttention(Rule):
    """Heads go as wholes, and inputs and output get narrower.

    Slice `h` of the kernels of query, key, value and gate along their axis of heads,
    and of their biases, is a member of head `h`. The output kernel's slices along that
    axis are cut with the head; along its last axis they are filters.
    """

    kind: type[keras.layers.Layer] = keras.layers.MultiHeadAttention

    def units(self, layer: keras.layers.Layer) -> int:
        """How many heads can go, each by itself."""
        return layer.num_heads

    def config(
        self, layer: keras.layers.Layer, units: int, width: int
    ) -> dict[str, Any]:
        """The configuration with fewer heads, and another width of the output."""
        return {"num_heads": units, "output_shape": (width,)}

    def level(self, query: Array, value: Array, out: Array) -> list[Array]:
        """Channels of query, value and output that can be kept together."""
        return [query, value, out]

    def attended(self, layer: keras.layers.Layer, rank: int) -> tuple[int, ...]:
        """The axes of the keys that every query looks at."""
        return tuple(layer.attention_axes)

    def head_size(self, layer: keras.layers.Layer) -> int:
        """What one query head costs per pair of a query and a key."""
        return layer.key_dim + layer.value_dim

    # What is read where.

    def _check(self, node: Node) -> None:
        layer, kind = node.operation, type(node.operation)
        if any(
            getattr(kind, name, None) is not getattr(self.kind, name, None)
            for name in _OVERRIDABLE
        ):
            raise NoRule("its class computes attention in its own way")
        for part in [*self._projections(node), _OUTPUT]:
            whole_kernel(part_of(layer, part))
        if len(part_of(layer, _OUTPUT)._kernel.shape) != 3:
            raise NoRule("its output has several axes of channels")

    @staticmethod
    def _streams(node: Node) -> dict[str, int]:
        """Which of the node's inputs is the query, the value and the key."""
        named = dict(zip(_STREAMS, node.args, strict=False)) | node.kwargs
        places: dict[str, int] = {}
        for name in [n for n in named if n in _STREAMS]:
            if isinstance(named[name], Tensor):
                places[name] = len(places)
        if len(places) != len(node.inputs) or not {"query", "value"} <= set(places):
            raise NoRule("it is called with more than a query, a value and a key")
        places.setdefault("key", places["value"])
        return places

    def _projections(self, node: Node) -> dict[str, int]:
        """The sublayers that make heads, each with the input that it reads."""
        places = self._streams(node)
        gate = {_GATE: "query"} if getattr(node.operation, _GATE, None) else {}
        reads = {_QUERY: "query", _KEY: "key", _VALUE: "value"} | gate
        return {part: places[name] for part, name in reads.items()}

    def _vectors(self, node: Node, arrays: list[Array]) -> list[Array]:
        """Along the last axis of each input, spelled out."""
        return [
            expand(a, 0, t.shape[-1]) for a, t in zip(arrays, node.inputs, strict=True)
        ]

    def _heads_read(self, node: Node, weights: Weights, part: str) -> Array:
        """bool, (inputs, units): whether a unit of a projection reads a channel."""
        kernel = part_of(node.operation, part)._kernel
        found = weights.connections(kernel, 0, 1)
        return any_along(found.reshape(len(found), self.units(node.operation), -1), 2)

    def _heads_written(self, node: Node, weights: Weights) -> Array:
        """bool, (units, outputs): whether a unit reaches an output channel."""
        found = weights.connections(part_of(node.operation, _OUTPUT)._kernel, 0, 2)
        units = self.units(node.operation)
        return any_along(found.reshape(units, -1, found.shape[-1]), 1)

    def _alive(self, node: Node, weights: Weights, values_read: Array) -> Array:
        """The units that are not zero, of the channels of the value that are there."""
        fed = any_along(
            self._heads_read(node, weights, _VALUE) & values_read[:, None], 0
        )
        bias = part_of(node.operation, _VALUE).bias
        if bias is None:
            return fed
        return fed | any_along(weights(bias).reshape(len(fed), -1) != 0, 1)

    @staticmethod
    def _scores_axis(node: Node) -> int:
        pairs = getattr(node.operation, "attention_axes", None) or (1,)
        return len(node.outputs[1].shape) - 2 * len(pairs) - 1

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        self._check(node)
        layer = node.operation
        vectors = [flow.vector(c, len(c.labels.shape) - 1)[0] for c in inputs]
        labels = self._vectors(node, vectors)
        for channels in inputs:
            flow.mix(channels, f"'{node.path}'")
        queries = flow.filters(node, part_of(layer, _QUERY)._kernel, 1, _QUERY)
        queries = queries.reshape(self.units(layer), -1)
        units = queries.max(axis=1)
        flow.tie(queries, units[:, None])
        for part, place in self._projections(node).items():
            sublayer = part_of(layer, part)
            flow.tie_calls(sublayer._kernel, labels[place])
            heads = np.repeat(units, sublayer._kernel.shape[1] // len(units))
            flow.member(node, sublayer._kernel, 1, "kernel", heads, part)
            if sublayer.bias is not None:
                flow.member(node, sublayer.bias, 0, "bias", heads, part)
        output = part_of(layer, _OUTPUT)
        out = flow.filters(node, output._kernel, 2, _OUTPUT)
        if output.bias is not None:
            flow.member(node, output.bias, 0, "bias", out, _OUTPUT)
        rank = len(node.outputs[0].shape)
        found = [channels_on_axis(out, np.zeros(out.shape), rank - 1, rank)]
        for tensor in node.outputs[1:]:  # a head without weights attends, to nothing
            rank, axis = len(tensor.shape), self._scores_axis(node)
            heads = np.repeat(units, queries.shape[1])
            found.append(
                channels_on_axis(heads, np.full(heads.shape, np.nan), axis, rank)
            )
        return found

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        self._check(node)
        vectors = [values_on_axis(v, v.ndim - 1) for v in values]
        read = self._vectors(node, vectors)[self._streams(node)["value"]]
        alive = self._alive(node, weights, ~(read == 0))
        fed = any_along(alive[:, None] & self._heads_written(node, weights), 0)
        bias = part_of(node.operation, _OUTPUT).bias
        known = np.zeros(fed.shape) if bias is None else weights(bias)
        rank = len(node.outputs[0].shape)
        return [
            on_axis(np.where(fed, np.nan, known), rank - 1, rank),
            *(unknown(len(tensor.shape)) for tensor in node.outputs[1:]),
        ]

    def _used(
        self, node: Node, weights: Weights, alive: Array, out: Array, scores: bool
    ) -> Array:
        """The units that are needed."""
        if scores:
            return np.ones_like(alive)
        return alive & any_along(self._heads_written(node, weights) & out, 1)

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        vectors = [values_on_axis(v, v.ndim - 1) for v in values]
        there = [~(v == 0) for v in self._vectors(node, vectors)]
        values_read = there[self._streams(node)["value"]]
        if node.shared:  # all calls have the same heads
            values_read = np.ones_like(values_read)
        alive = self._alive(node, weights, values_read)
        scores = any(part is not None for part in needed[1:])
        used = self._used(node, weights, alive, self._out(node, needed[0]), scores)
        node.memo["used"] = used if used.any() else np.arange(len(used)) == 0
        read = [np.zeros_like(t) for t in there]
        for part, place in self._projections(node).items():
            reads = any_along(self._heads_read(node, weights, part) & used, 1)
            read[place] |= reads & there[place]
        found: list[Array | None] = []
        for vector, value in zip(read, values, strict=True):
            if value.shape[-1] == 1:
                vector = np.array([vector.any()])
            array = on_axis(vector, value.ndim - 1, value.ndim)
            found.append(np.broadcast_to(array, value.shape).copy())
        return found

    @staticmethod
    def _out(node: Node, needed: Array | None) -> Array:
        """Which output channels are needed; one if it is none."""
        width = part_of(node.operation, _OUTPUT)._kernel.shape[2]
        if needed is None:
            return np.arange(width) == 0
        return expand(kept_along(needed, needed.ndim - 1), 0, width)

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        present = []
        for tensor, k, r in zip(node.inputs, kept, read, strict=True):
            assert r is not None  # every projection is needed
            rank = len(tensor.shape)
            present.append(present_along(k, r, rank - 1, tensor.shape[-1]))
        query, value = (self._streams(node)[name] for name in ("query", "value"))
        present[query], present[value], out = self.level(
            present[query], present[value], self._out(node, needed[0])
        )
        rank = len(node.outputs[0].shape)
        scores = [everything(len(tensor.shape)) for tensor in node.outputs[1:]]
        return [
            on_axis(vector, len(t.shape) - 1, len(t.shape))
            for vector, t in zip(present, node.inputs, strict=True)
        ], [on_axis(out, rank - 1, rank), *scores]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        layer = node.operation
        ends = [kept_along(kept, -1) for kept in cut.inputs if kept is not None]
        inputs = self._vectors(node, ends)
        out = kept_along(cut.outputs[0], -1)
        used = node.memo["used"]  # by `needs`: here, weights need not be weights
        new: dict[str, Array] = {}
        for part, place in self._projections(node).items():
            sublayer = part_of(layer, part)
            heads = np.repeat(used, sublayer._kernel.shape[1] // len(used))
            kernel = np.compress(inputs[place], weights(sublayer._kernel), axis=0)
            new[f"{part}._kernel"] = np.compress(heads, kernel, axis=1)
            if sublayer.bias is not None:
                new[f"{part}.bias"] = np.compress(heads, weights(sublayer.bias), axis=0)
        output = part_of(layer, _OUTPUT)
        heads = np.repeat(used, output._kernel.shape[0] // len(used))
        kernel = np.compress(heads, weights(output._kernel), axis=0)
        new[f"{_OUTPUT}._kernel"] = np.compress(out, kernel, axis=2)
        if output.bias is not None:
            new[f"{_OUTPUT}.bias"] = weights(output.bias)[out]
        config = self.config(layer, int(used.sum()), int(out.sum()))
        # The configuration of the layer lacks this one.
        config["flash_attention"] = layer._flash_attention
        return narrower(node, config, new)

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        """Projections of query, key and value, scores, weighted sum, output."""
        layer, places = node.operation, self._streams(node)
        query, value = (sizes.inputs[places[name]] for name in ("query", "value"))
        targets, sources = count(query[1:-1]), count(value[1:-1])
        # Every target looks at the sources along the attention axes only.
        axes = self.attended(layer, len(value))
        span = count(tuple(value[axis] for axis in axes))
        weights = {
            part: sizes.weight(f"{part}._kernel")
            for part in [*self._projections(node), _OUTPUT]
        }
        read_by_target = sum(
            size for part, size in weights.items() if part not in (_KEY, _VALUE)
        )
        return (
            targets * read_by_target
            + sources * (weights[_KEY] + weights[_VALUE])
            + self.inside(node, sizes) * targets * span * self.head_size(layer)
        )

    def inside(self, node: Node, sizes: Sizes) -> int:
        """Its query heads."""
        kernel = f"{_OUTPUT}._kernel"
        shape = sizes.weights.get(kernel, part_of(node.operation, kernel).shape)
        return count(shape[:1])


class GroupQueryAttention(MultiHeadAttention):
    """A head of keys and values goes with all the queries that look at it.

    The layer's query, value and output are equally wide.
    """

    kind = keras.layers.GroupQueryAttention

    def units(self, layer: keras.layers.Layer) -> int:
        return layer.num_key_value_heads

    def config(
        self, layer: keras.layers.Layer, units: int, width: int
    ) -> dict[str, Any]:
        queries = units * layer.num_query_heads // layer.num_key_value_heads
        return {"num_key_value_heads": units, "num_query_heads": queries}

    def level(self, query: Array, value: Array, out: Array) -> list[Array]:
        """All as wide as the widest: zeros are read, or outputs made for nobody."""
        return level([query, value, out])

    def attended(self, layer: keras.layers.Layer, rank: int) -> tuple[int, ...]:
        return (1,)

    def head_size(self, layer: keras.layers.Layer) -> int:
        return 2 * layer.head_dim
