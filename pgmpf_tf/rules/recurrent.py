"""Recurrent layers: a unit is what all gates compute for one entry of the state.

Without weights the candidate of a unit is zero at every step, and so is its state.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    any_along,
    expand,
    kept_along,
    level,
    on_axis,
)
from pgmpf_tf.channels.flow import Channels, Flow, channels_on_axis, values_on_axis
from pgmpf_tf.channels.nodes import Node, part_of
from pgmpf_tf.rules.base import Layout, Rule, Sizes, count
from pgmpf_tf.rules.channelwise import present_along
from pgmpf_tf.rules.elementwise import pointwise
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights, evaluate

# Which of the blocks of a kernel makes the candidate for the new state.
_CANDIDATES: dict[type, int] = {
    layers.LSTMCell: 2,
    layers.GRUCell: 2,
    layers.SimpleRNNCell: 0,
}


class Recurrent(Rule):
    """LSTM, GRU and SimpleRNN."""

    def parts(self, layer: keras.layers.Layer) -> list[str]:
        """The layers inside that have a state, as paths of attributes."""
        return [""]

    def config(self, layer: keras.layers.Layer, units: int) -> dict[str, Any]:
        """The configuration with fewer units."""
        return {"units": units}

    def sources(self, node: Node) -> list[list[int]]:
        """Which parts make each output."""
        return [[0] for _ in node.outputs]

    def merged(self, node: Node, vectors: list[Array], these: list[int]) -> Array:
        """What is said of the units of some parts, for an output they make."""
        return np.concatenate([vectors[place] for place in these])

    def unmerged(self, node: Node, vector: Array, these: list[int]) -> dict[int, Array]:
        """The inverse: the units that an output's channels come from."""
        sizes = [self._cells(node)[place].units for place in these]
        pieces = np.split(vector, np.cumsum(sizes)[:-1])
        return dict(zip(these, pieces, strict=True))

    def agreed(self, node: Node, used: list[Array]) -> list[Array]:
        """The units that are kept, of those that are needed."""
        return used

    def _cells(self, node: Node) -> list[Any]:
        layer = node.operation
        cells = []
        for part in self.parts(layer):
            inner = part_of(layer, part)
            cells.append(getattr(inner, "cell", None))
            if type(cells[-1]) not in _CANDIDATES:
                raise NoRule("its cell is not known")
            if inner.stateful:
                raise NoRule("its state is kept between batches")
        if len(node.inputs) > 1 and (len(cells) > 1 or node.shared):
            raise NoRule("it is called with an initial state")
        return cells

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        cells = self._cells(node)
        for channels in inputs:
            flow.mix(channels, f"'{node.path}'")
        labels = flow.vector(inputs[0], 2)[0]
        labels = expand(labels, 0, node.inputs[0].shape[2])
        units: list[Array] = []
        for part, cell in zip(self.parts(node.operation), cells, strict=True):
            flow.tie_calls(cell.kernel, labels)
            blocks = cell.kernel.shape[1] // cell.units
            every = flow.filters(node, cell.kernel, 1, part, blocks)
            flow.member(node, cell.recurrent_kernel, 1, "kernel", every, part)
            if cell.bias is not None:
                flow.member(node, cell.bias, -1, "bias", every, part)
            units.append(every[: cell.units])
            for state in inputs[1:]:
                flow.tie(flow.vector(state, 1)[0], units[-1])
            if not _quiet(cell):
                flow.pin(units[-1], "its activation does not keep zero")
        found = []
        for tensor, these in zip(node.outputs, self.sources(node), strict=True):
            out, rank = self.merged(node, units, these), len(tensor.shape)
            for place, vector in self.unmerged(node, out, these).items():
                flow.tie(vector, units[place])
            found.append(channels_on_axis(out, np.zeros(out.shape), rank - 1, rank))
        return found

    def _alive(self, node: Node, weights: Weights, there: list[Array]) -> list[Array]:
        """The units whose state may be something else than zero, by part.

        Args:
            node: the call.
            weights: reads weights.
            there: the channels of the inputs that are not zero.
        """
        found = []
        for cell in self._cells(node):
            alive = np.ones(cell.units, bool)
            if _quiet(cell):
                block = _CANDIDATES[type(cell)]
                kernel, recurrent = (
                    _blocks(weights(v) != 0, cell.units)[:, block]
                    for v in (cell.kernel, cell.recurrent_kernel)
                )
                alive = any_along(kernel & there[0][:, None], 0)
                if cell.bias is not None:
                    bias = np.atleast_2d(weights(cell.bias) != 0)
                    alive |= any_along(_blocks(bias, cell.units)[:, block], 0)
                for state in there[1:]:
                    alive |= state
                alive = _reached(alive, recurrent.T)
            found.append(alive)
        return found

    def _there(self, node: Node, values: list[Array]) -> list[Array]:
        return [
            expand(~(values_on_axis(v, v.ndim - 1) == 0), 0, tensor.shape[-1])
            for v, tensor in zip(values, node.inputs, strict=True)
        ]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        alive = self._alive(node, weights, self._there(node, values))
        found = []
        for tensor, these in zip(node.outputs, self.sources(node), strict=True):
            known = np.where(self.merged(node, alive, these), np.nan, 0.0)
            found.append(on_axis(known, len(tensor.shape) - 1, len(tensor.shape)))
        return found

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        there, cells = self._there(node, values), self._cells(node)
        fed = [np.ones_like(t) for t in there] if node.shared else there
        alive = self._alive(node, weights, fed)  # the same for all calls
        used = [np.zeros(cell.units, bool) for cell in cells]
        for part, these in zip(needed, self.sources(node), strict=True):
            if part is not None:
                width = len(self.merged(node, alive, these))
                wanted = expand(kept_along(part, part.ndim - 1), 0, width)
                for place, vector in self.unmerged(node, wanted, these).items():
                    used[place] |= vector & alive[place]
        for place, cell in enumerate(cells):
            recurrent = _blocks(weights(cell.recurrent_kernel) != 0, cell.units)
            used[place] = _reached(used[place], any_along(recurrent, 1)) & alive[place]
            used[place][0] |= not used[place].any()
        used = self.agreed(node, used)
        node.memo["used"] = used
        read = [np.zeros_like(there[0])]
        for cell, vector in zip(cells, used, strict=True):
            kernel = _blocks(weights(cell.kernel) != 0, cell.units)
            read[0] |= any_along(any_along(kernel, 1) & vector, 1) & there[0]
            read += [vector] * (len(values) - 1)
        found: list[Array | None] = []
        for vector, value in zip(read, values, strict=True):
            if value.shape[-1] == 1:
                vector = np.array([vector.any()])
            array = on_axis(vector, value.ndim - 1, value.ndim)
            found.append(np.broadcast_to(array, value.shape).copy())
        return found

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        assert read[0] is not None
        used = node.memo["used"]
        sequence = present_along(kept[0], read[0], 2, node.inputs[0].shape[2])
        outputs = []
        for tensor, these in zip(node.outputs, self.sources(node), strict=True):
            out, rank = self.merged(node, used, these), len(tensor.shape)
            outputs.append(on_axis(out, rank - 1, rank))
        states = [on_axis(used[0], 1, 2) for _ in node.inputs[1:]]
        return [on_axis(sequence, 2, 3), *states], outputs

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        layer = node.operation
        assert cut.inputs[0] is not None
        read = expand(kept_along(cut.inputs[0], 2), 0, node.inputs[0].shape[2])
        new: dict[str, Array] = {}
        parts = zip(
            self.parts(layer), self._cells(node), node.memo["used"], strict=True
        )
        for part, cell, used in parts:
            path = f"{part}.cell" if part else "cell"
            every = np.tile(used, cell.kernel.shape[1] // cell.units)
            kernel = np.compress(read, weights(cell.kernel), axis=0)
            recurrent = np.compress(used, weights(cell.recurrent_kernel), axis=0)
            new[f"{path}.kernel"] = np.compress(every, kernel, axis=1)
            new[f"{path}.recurrent_kernel"] = np.compress(every, recurrent, axis=1)
            if cell.bias is not None:
                new[f"{path}.bias"] = np.compress(every, weights(cell.bias), axis=-1)
        config = self.config(layer, int(node.memo["used"][0].sum()))
        return narrower(node, config, new)

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        """Each step multiplies by all weights."""
        parts = [f"{part}." if part else "" for part in self.parts(node.operation)]
        each = sum(
            sizes.weight(f"{part}cell.{kernel}")
            for part in parts
            for kernel in ("kernel", "recurrent_kernel")
        )
        return count(sizes.inputs[0][1:2]) * each


def _quiet(cell: Any) -> bool:
    """Whether a unit without weights stays zero."""
    try:
        return bool(evaluate(pointwise(cell.activation), np.zeros(1))[0] == 0)
    except NoRule:
        return False


def _blocks(matrix: Array, units: int) -> Array:
    """A kernel as (rows, blocks, units)."""
    return matrix.reshape(len(matrix), -1, units)


def _reached(units: Array, by: Array) -> Array:
    """Units, and those that reach them by any number of steps.

    Args:
        units: bool, (units,).
        by: bool, (units, units): whether one (row) reaches another (column).
    """
    while True:
        more = units | any_along(by & units, 1)
        if (more == units).all():
            return units
        units = more


class Bidirectional(Recurrent):
    """Two recurrent layers, which keep equally many units."""

    def parts(self, layer: keras.layers.Layer) -> list[str]:
        return ["forward_layer", "backward_layer"]

    def config(self, layer: keras.layers.Layer, units: int) -> dict[str, Any]:
        config = layer.get_config()
        changed = {}
        for name in ("layer", "backward_layer"):
            inner = dict(config[name])
            inner.pop("build_config", None)  # it has the old input's width
            changed[name] = inner | {"config": inner["config"] | {"units": units}}
        return changed

    def sources(self, node: Node) -> list[list[int]]:
        layer = node.operation
        first = [[0], [1]] if layer.merge_mode is None else [[0, 1]]
        states = (len(node.outputs) - len(first)) // 2
        return first + [[0]] * states + [[1]] * states

    def merged(self, node: Node, vectors: list[Array], these: list[int]) -> Array:
        if len(these) == 1 or node.operation.merge_mode == "concat":
            return super().merged(node, vectors, these)
        return np.maximum(*vectors)

    def unmerged(self, node: Node, vector: Array, these: list[int]) -> dict[int, Array]:
        if len(these) == 1 or node.operation.merge_mode == "concat":
            return super().unmerged(node, vector, these)
        return dict.fromkeys(these, vector)

    def agreed(self, node: Node, used: list[Array]) -> list[Array]:
        if node.operation.merge_mode in (None, "concat"):
            return level(used)
        return [np.logical_or(*used)] * 2
