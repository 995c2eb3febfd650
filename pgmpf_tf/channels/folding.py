"""Recognise what `compact` inserts, so that a small model can be pruned again.

Where branches of a sum kept different channels, `compact` puts zeros between them:
transpose, pad, take, transpose. Taken one by one these operations would hide the
channels from any later analysis.
"""

from __future__ import annotations

import keras
import numpy as np

from pgmpf_tf.channels.graph import Graph, Node


class Select(keras.Operation):
    """Stands for a chain that gathers channels in order, with zeros between.

    Attributes:
        axis: the channel axis.
        numbers: for every channel of the result the channel it is, or -1 for zeros.
    """

    def __init__(self, axis: int, numbers: np.ndarray, name: str):
        super().__init__(name=name)
        self.axis, self.numbers = axis, numbers


def fold_selects(graph: Graph) -> Graph:
    """Replace the chains that `compact` makes by one `Select` each."""
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            readers.setdefault(id(tensor), []).append(node)
    kept = {id(tensor) for tensor in graph.outputs}
    folded: dict[int, Node | None] = {}
    for node in graph.nodes:
        if type(node.operation).__name__ != "Transpose":
            continue
        chain = _chain(node, readers, kept)
        select = _select(chain) if chain else None
        if select is not None:
            folded |= {id(member): None for member in chain}
            folded[id(chain[-1])] = select
    nodes = [folded.get(id(node), node) for node in graph.nodes]
    return Graph(
        graph.function,
        graph.inputs,
        graph.outputs,
        [node for node in nodes if node is not None],
    )


def _chain(first: Node, readers, kept) -> list[Node]:
    """Transpose, perhaps Pad, Take, Transpose: each read by the next one only."""
    chain, expected = [first], ["Pad", "Take", "Transpose"]
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


def _select(chain: list[Node]) -> Node | None:
    """The chain as one operation, if it is exactly one that `compact` makes."""
    first, *pads, take, last = chain
    order = list(first.operation.axes or ())
    (source,) = first.inputs
    places = take.args[1] if len(take.args) > 1 else take.kwargs.get("indices")
    if (
        not order
        or list(last.operation.axes or ()) != [int(a) for a in np.argsort(order)]
        or take.operation.axis != 0
        or not isinstance(places, (list, tuple))
        or not all(isinstance(place, int) for place in places)
        or order[1:] != sorted(order[1:])
    ):
        return None
    axis, numbers = order[0], np.array(places)
    width = source.shape[axis]
    if width is None or axis == 0:
        return None
    if pads:
        (pad,) = pads
        widths = [tuple(pair) for pair in pad.operation.pad_width]
        fill = pad.kwargs.get("constant_values", (*pad.args, None)[1])
        plain = pad.operation.mode == "constant" and not fill
        if not plain or widths != [(0, 1)] + [(0, 0)] * (len(order) - 1):
            return None
        numbers = np.where(numbers == width, -1, numbers)
    inside = numbers[numbers >= 0]
    if (numbers < -1).any() or (np.diff(inside) <= 0).any() or (inside >= width).any():
        return None
    operation = Select(axis, numbers, name=last.operation.name)
    return Node(operation, (source,), {}, last.outputs)
