"""The parts of a network that a runtime is timed on: short chains of calls.

A chain begins with a call that has a kernel, or that reads several tensors, and takes
in the cheap calls that follow it: runtimes fold a normalization or an activation into
the convolution before it, and padding into the one after it. What compaction would
insert between calls are parts, too.
"""

from __future__ import annotations

import collections
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pgmpf_tf.channels.arrays import Array, Shape, everything, kept_along
from pgmpf_tf.channels.elimination import Step
from pgmpf_tf.channels.graph import Graph
from pgmpf_tf.channels.nodes import Node, Tensor
from pgmpf_tf.rules import Sizes

# What a layer is called, how it is trained, and its width: the last is told by shapes.
_NO_MATTER = ("name", "dtype", "trainable", "seed", "momentum", "filters", "units")
_NO_MATTER_ENDS = ("_initializer", "_regularizer", "_constraint")


@dataclass(frozen=True)
class Segment:
    """A part of a network, at some width.

    Attributes:
        family: what it is apart from its width, as JSON: the calls with their
            configurations, and their shapes in the whole network.
        width_in: how many channels it reads, of all its inputs.
        width_out: how many channels it makes.
        inside: how many channels it has that neither tells of; see `Rule.inside`.
        steps: the calls; none for what compaction inserts.
        entries: of its weights.
    """

    family: str
    width_in: float
    width_out: float
    inside: float = 0.0
    steps: tuple[Step, ...] = field(default=(), compare=False)
    entries: int = field(default=0, compare=False)


class Segments:
    """Cuts a graph into segments, whatever is left of it.

    Args:
        graph: the whole network, its sizes settled.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._chain: dict[int, int] = {}
        chains: list[list[Node]] = []
        readers: dict[int, list[Node | None]] = collections.defaultdict(list)
        for node in graph.nodes:
            for tensor in node.inputs:
                readers[id(tensor)].append(node)
        for tensor in graph.outputs:
            readers[id(tensor)].append(None)
        tails: dict[int, int] = {}
        for node in graph.nodes:
            place = self._follows(node, readers, tails, chains)
            if place is None:
                place = len(chains)
                chains.append([])
            chains[place].append(node)
            self._chain[id(node)] = place
            tails |= {id(tensor): place for tensor in node.outputs}
        self._families = [_family(chain) for chain in chains]

    def _follows(
        self,
        node: Node,
        readers: Mapping[int, Sequence[Node | None]],
        tails: dict[int, int],
        chains: list[list[Node]],
    ) -> int | None:
        """The chain that a call goes on with, if there is one."""
        if len(node.inputs) != 1 or len(readers[id(node.inputs[0])]) != 1:
            return None
        if _is_padding(node) and all(
            reader is not None and _has_kernel(reader)
            for tensor in node.outputs
            for reader in readers[id(tensor)]
        ):
            return None  # it goes to what follows
        place = tails.get(id(node.inputs[0]))
        if place is None or not chains[place][-1].inputs:
            return None
        last = chains[place][-1]
        if len(last.outputs) > 1:
            return None
        if _has_kernel(node) and not (_is_padding(last) and len(chains[place]) == 1):
            return None
        return place

    @property
    def network(self) -> str:
        """Tells the whole network from others, by its segments."""
        text = "\n".join(sorted(self._families))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def of(self, steps: Sequence[Step]) -> Iterator[Segment]:
        """The segments of what is left of the network.

        Args:
            steps: the calls that are left, in order, each with what takes its place.
        """
        chains: dict[int, list[Step]] = {}
        for step in steps:
            chains.setdefault(self._chain[id(step.node)], []).append(step)
        for place, chain in chains.items():
            reads, makes = _sizes(chain[0]).inputs, _sizes(chain[-1]).outputs
            yield Segment(
                self._families[place],
                _width(reads, chain[0].node.inputs),
                _width(makes, chain[-1].node.outputs),
                sum(step.rule.inside(step.node, _sizes(step)) for step in chain),
                tuple(chain),
                sum(_entries(step) for step in chain),
            )
        yield from _gathers(self._graph, steps)


def _is_padding(node: Node) -> bool:
    return type(node.operation).__name__.startswith("ZeroPadding")


def _has_kernel(node: Node) -> bool:
    weights = getattr(node.operation, "weights", ())
    return any(len(weight.shape) > 1 for weight in weights)


def _family(chain: Sequence[Node]) -> str:
    description = {
        "calls": [
            [type(node.operation).__name__, _config(node.operation)] for node in chain
        ],
        "inputs": [_size(tensor) for tensor in chain[0].inputs],
        "outputs": [_size(tensor) for tensor in chain[-1].outputs],
    }
    return json.dumps(
        description, sort_keys=True, default=lambda value: type(value).__name__
    )


def _config(operation: Any) -> dict[str, Any]:
    try:
        config = operation.get_config()
    except Exception:  # it cannot be told apart but by its shapes
        return {}
    return {
        key: value
        for key, value in config.items()
        if key not in _NO_MATTER and not key.endswith(_NO_MATTER_ENDS)
    }


def _size(tensor: Tensor) -> list[int | None]:
    return list((tensor.size or tensor.shape)[1:])


def _entries(step: Step) -> int:
    assert step.rebuilt is not None  # the last walk of the elimination sets it
    if step.rebuilt.weights is None:
        weights = getattr(step.node.operation, "weights", ())
        return sum(math.prod(weight.shape) for weight in weights)
    return sum(int(value.size) for value in step.rebuilt.weights.values())


def _sizes(step: Step) -> Sizes:
    assert step.rebuilt is not None  # the last walk of the elimination sets it
    return Sizes.after(step.node, step.cut, step.rebuilt)


def _width(shapes: Sequence[Shape], tensors: Sequence[Tensor]) -> float:
    """The channels of some tensors, where all that is left out counts as channels."""
    width = 0.0
    for shape, tensor in zip(shapes, tensors, strict=True):
        if not shape:  # it is left out, or a scalar
            continue
        whole = tensor.size or tensor.shape
        pairs = [(a, b) for a, b in zip(shape, whole, strict=True) if a and b]
        left = math.prod(a for a, _ in pairs) * (whole[-1] or 1)
        width += left / math.prod(b for _, b in pairs)
    return width


def _gathers(graph: Graph, steps: Sequence[Step]) -> Iterator[Segment]:
    """What compaction inserts where a call wants other channels than there are."""
    kept = {id(tensor): everything(len(tensor.shape)) for tensor in graph.inputs}
    wanted: list[tuple[Tensor, Array]] = []
    for step in steps:
        for tensor, produced in zip(step.node.outputs, step.produced, strict=True):
            kept[id(tensor)] = produced
        for tensor, required in zip(step.node.inputs, step.required, strict=True):
            if required is not None:
                wanted.append((tensor, required))
    wanted += [(tensor, everything(len(tensor.shape))) for tensor in graph.outputs]
    seen: set[tuple[Any, ...]] = set()
    for tensor, required in wanted:
        have_all = kept[id(tensor)]
        for axis in range(have_all.ndim):
            have, want = np.broadcast_arrays(
                kept_along(have_all, axis), kept_along(required, axis)
            )
            key = id(tensor), axis, want.tobytes()
            if (have == want).all() or key in seen:
                continue
            seen.add(key)
            yield Segment(
                gather_family(_kind(have, want), _size(tensor), axis),
                float(have.sum()),
                float(want.sum()),
            )


GATHERS = ("scatter", "take", "pad")
"""The kinds of what compaction inserts, the dearest first."""


def gather_family(kind: str, shape: Sequence[int | None], axis: int) -> str:
    """The family of what takes channels of a tensor and puts zeros between them."""
    return json.dumps({"axis": axis, "gather": kind, "shape": list(shape)})


def _kind(have: Array, want: Array) -> str:
    """How `pgmpf_tf.inserting` does it: by padding, taking, or both."""
    numbers = np.where(have, np.cumsum(have) - 1, -1)[want]
    width, there = int(have.sum()), numbers >= 0
    if there.sum() == width and (np.diff(np.flatnonzero(there)) == 1).all():
        return "pad"
    return "take" if there.all() else "scatter"
