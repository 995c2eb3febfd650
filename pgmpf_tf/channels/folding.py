"""Recognize what `compact` inserts, so that a small model can be pruned again.

Where branches of a sum kept different channels, `compact` puts zeros between them:
transpose, pad, take, transpose, or in very deep models pad, take. Taken one by one
these operations would hide the channels from any later analysis.
"""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array
from pgmpf_tf.channels.graph import Graph
from pgmpf_tf.channels.nodes import Node


class Gather(keras.Operation):
    """Stands for a chain that gathers channels in order, with zeros between.

    Attributes:
        axis: the channel axis.
        numbers: for every channel of the result the channel it is, or -1 for zeros.
    """

    def __init__(self, axis: int, numbers: Array, name: str) -> None:
        super().__init__(name=name)
        self.axis, self.numbers = axis, numbers


def fold_gathers(graph: Graph) -> Graph:
    """Replace the chains that `compact` makes by one `Gather` each."""
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            readers.setdefault(id(tensor), []).append(node)
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
