"""Recognize what `compact` inserts, so that a small model can be pruned again.

Where branches of a sum kept different channels, `compact` puts zeros between them:
transpose, pad, take, transpose, or in very deep models pad, take. Where a normalization
lost channels, it writes out the statistics. Taken one by one these operations would
hide the channels from any later analysis.
"""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array
from pgmpf_tf.channels.graph import Graph
from pgmpf_tf.channels.nodes import Node, Tensor


class Gather(keras.Operation):
    """Stands for a chain that gathers channels in order, with zeros between.

    Attributes:
        axis: the channel axis.
        numbers: for every channel of the result the channel it is, or -1 for zeros.
    """

    def __init__(self, axis: int, numbers: Array, name: str) -> None:
        super().__init__(name=name)
        self.axis, self.numbers = axis, numbers


def _readers(graph: Graph) -> dict[int, list[Node]]:
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            readers.setdefault(id(tensor), []).append(node)
    return readers


def fold_gathers(graph: Graph) -> Graph:
    """Replace the chains that `compact` makes by one `Gather` each."""
    graph = fold_standardized(graph)
    readers = _readers(graph)
    kept = {id(tensor) for tensor in graph.outputs}
    folded: dict[int, Node | None] = {}
    for node in graph.nodes:
        followers = _FOLLOWERS.get(type(node.operation).__name__)
        if followers is None or id(node) in folded:
            continue
        chain = _chain(node, followers, readers, kept)
        gather = _gather(chain) if chain else None
        if gather is not None:
            folded |= {id(part): None for part in chain}
            folded[id(chain[-1])] = gather
    nodes = [folded.get(id(node), node) for node in graph.nodes]
    return dataclasses.replace(
        graph, nodes=[node for node in nodes if node is not None]
    )


_FOLLOWERS = {
    "Transpose": ("Pad", "Take", "Transpose"),
    "Pad": ("Take",),
    "Take": (),
}
"""What must come after each operation that may begin a chain; a Pad may be missing."""


def _chain(
    first: Node,
    followers: tuple[str, ...],
    readers: dict[int, list[Node]],
    kept: set[int],
) -> list[Node]:
    """The operations of a chain, each read by the next one only."""
    chain, expected = [first], list(followers)
    while expected:
        (out,) = chain[-1].outputs
        after = readers.get(id(out), [])
        if len(after) != 1 or id(out) in kept:
            return []
        name = type(after[0].operation).__name__
        if name == "Take" and expected[0] == "Pad":
            expected.pop(0)
        if name != expected.pop(0):
            return []
        chain.append(after[0])
    return chain


def _gather(chain: list[Node]) -> Node | None:
    """The chain as one operation, if it is exactly one that `compact` makes."""
    source, rank = chain[0].inputs[0], len(chain[0].inputs[0].shape)
    by_name = {type(node.operation).__name__: node for node in chain}
    take, pad = by_name["Take"], by_name.get("Pad")
    places = take.args[1] if len(take.args) > 1 else take.kwargs.get("indices")
    if not isinstance(places, (list, tuple)) or take.operation.axis is None:
        return None
    if not all(isinstance(place, int) and place >= 0 for place in places):
        return None
    at = axis = take.operation.axis % rank
    if "Transpose" in by_name:
        order = list(chain[0].operation.axes or ())
        back = list(chain[-1].operation.axes or ())
        if at or not order or back != [int(a) for a in np.argsort(order)]:
            return None
        axis = order[0]
    width, numbers = source.shape[axis], np.array(places)
    if width is None or axis == 0:
        return None
    if pad is not None:
        widths = [tuple(pair) for pair in pad.operation.pad_width]
        fill = pad.kwargs.get("constant_values", (*pad.args, None)[1])
        expected = [(0, int(a == at)) for a in range(rank)]
        if pad.operation.mode != "constant" or fill or widths != expected:
            return None
        numbers = np.where(numbers == width, -1, numbers)
    inside = numbers[numbers >= 0]
    if not inside.size or (np.diff(inside) <= 0).any() or (inside >= width).any():
        return None
    operation = Gather(axis, numbers, name=chain[-1].operation.name)
    return Node(operation, (source,), {}, chain[-1].outputs)


class Standardize(keras.Operation):
    """Stands for what `compact` makes of a normalization that has lost channels.

    `(x - mean) / sqrt(variance + epsilon)`, of the statistics of a tensor in which
    there were zeros besides.

    Attributes:
        share: of the channels that there were, the fraction that `x` has.
        epsilon: what the variance is increased by.
        axes: the axes that share a mean and a variance.
    """

    def __init__(
        self, share: float, epsilon: float, axes: tuple[int, ...], name: str
    ) -> None:
        super().__init__(name=name)
        self.share, self.epsilon, self.axes = share, epsilon, axes


def fold_standardized(graph: Graph) -> Graph:
    """Replace the chains that `compact` makes by one `Standardize` each."""
    makers = {id(out): node for node in graph.nodes for out in node.outputs}
    readers = _readers(graph)
    outputs = {id(tensor) for tensor in graph.outputs}
    folded: dict[int, Node | None] = {}
    for node in graph.nodes:
        chain = _standardizing(node, makers)
        inside = {id(part) for part in chain}
        closed = all(
            id(out) not in outputs
            and all(id(reader) in inside for reader in readers.get(id(out), []))
            for part in chain[1:]
            for out in part.outputs
        )
        if chain and closed:
            mean, scaled, shifted = chain[-1], chain[-2], chain[2]
            operation = Standardize(
                float(scaled.args[1]),
                -float(shifted.args[1]),
                tuple(mean.operation.axis),
                node.operation.name.partition("_normalized")[0],
            )
            folded |= dict.fromkeys(inside)
            folded[id(node)] = Node(
                operation, (mean.inputs[0],), {}, node.outputs, node.path
            )
    nodes = [folded.get(id(node), node) for node in graph.nodes]
    return dataclasses.replace(
        graph, nodes=[node for node in nodes if node is not None]
    )


def _standardizing(last: Node, makers: dict[int, Node]) -> list[Node]:
    """The chain from the last operation back to the mean; empty if it is another."""

    def made(tensor: Tensor, kind: str) -> Node:
        node = makers.get(id(tensor))
        if node is None or type(node.operation).__name__ != kind:
            raise LookupError
        return node

    def times(tensor: Tensor) -> Node:
        return with_number(made(tensor, "Multiply"))

    def with_number(node: Node) -> Node:
        if len(node.args) != 2 or not isinstance(node.args[1], (int, float)):
            raise LookupError
        return node

    if type(last.operation).__name__ != "Multiply" or len(last.inputs) != 2:
        return []
    try:
        rsqrt = made(last.inputs[1], "Rsqrt")
        shifted = with_number(made(rsqrt.inputs[0], "Subtract"))
        variance = made(shifted.inputs[0], "Subtract")
        squares, zeros = (times(tensor) for tensor in variance.inputs)
        mean_square = made(squares.inputs[0], "Mean")
        square = made(mean_square.inputs[0], "Square")
        centered = made(square.inputs[0], "Subtract")
        square_mean = made(zeros.inputs[0], "Square")
        scaled = times(square_mean.inputs[0])
        mean = made(scaled.inputs[0], "Mean")
    except (LookupError, ValueError):  # other operations, or other arguments
        return []
    same = (
        last.inputs[0] is centered.outputs[0]
        and list(centered.inputs) == [mean.inputs[0], scaled.outputs[0]]
        and squares.args[1] == scaled.args[1] == zeros.args[1] + 1
        and mean.operation.axis == mean_square.operation.axis
        and mean.operation.keepdims
        and mean_square.operation.keepdims
    )
    middle = [variance, squares, zeros, mean_square, square, centered, square_mean]
    return [last, rsqrt, shifted, *middle, scaled, mean] if same else []
