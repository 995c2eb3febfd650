"""Dead-channel elimination: what is zero, what nobody needs, and what stays.

Three walks over the graph. Forward: which channels are constant. Backward: which are
read by anything that matters. Forward again: what each tensor then holds, and where
something must be inserted or left out between two operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array, NoRule, everything, unknown, whole_slices
from pgmpf_tf.channels.graph import Graph
from pgmpf_tf.channels.nodes import Node, Tensor, has_weights
from pgmpf_tf.channels.stand_ins import STAND_INS
from pgmpf_tf.rules import Barrier, Cut, Rebuilt, Rule, Weights, narrower, rule_for


@dataclass
class Step:
    """What becomes of one call.

    Attributes:
        node: the call in the old graph.
        rule: its rule.
        values: per input its known constant values.
        needed: per output what is needed of it; None where it is not used.
        read: per input what the call reads for that; None where it is left out.
        required: per input what the new call wants to find; None where left out.
        produced: per output what the new call makes.
        rebuilt: what takes its place.
    """

    node: Node
    rule: Rule
    values: list[Array] = field(default_factory=list)
    needed: list[Array | None] = field(default_factory=list)
    read: list[Array | None] = field(default_factory=list)
    required: list[Array | None] = field(default_factory=list)
    produced: list[Array] = field(default_factory=list)
    rebuilt: Rebuilt | None = None

    @property
    def needed_anywhere(self) -> bool:
        """Whether any output is used."""
        return any(part is not None for part in self.needed)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the call goes."""
        return all(part is not None and part.all() for part in self.required) and all(
            part.all() for part in self.produced
        )

    @property
    def cut(self) -> Cut:
        """What is left of the call."""
        return Cut(self.required, self.produced, self.values)


def unchanged(node: Node) -> Step:
    """What becomes of a call that keeps all its channels: the same call again."""
    step = Step(
        node,
        rule_for(node.operation),
        [unknown(len(tensor.shape)) for tensor in node.inputs],
        required=[everything(len(tensor.shape)) for tensor in node.inputs],
        produced=[everything(len(tensor.shape)) for tensor in node.outputs],
    )
    if isinstance(node.operation, STAND_INS):
        step.rebuilt = step.rule.rebuild(node, Weights(), step.cut)
    else:
        step.rebuilt = narrower(node)
    return step


class _MoreBarriers(Exception):
    """Rules gave up on nodes; the walks start again with barriers in their place."""


Barriers = dict[int, Barrier]
"""Operations whose rules gave up, by `id`."""


def eliminate(
    graph: Graph,
    weights: Weights,
    *,
    new_weights: Weights | None = None,
    barriers: Barriers | None = None,
) -> list[Step]:
    """The calls that remain, in order, with what each reads and makes.

    Branches that are zero are left out, unless a model input would hang loose then:
    older versions of Keras make no model of that.

    Args:
        graph: the model.
        weights: reads the weights that say what is zero.
        new_weights: reads the weights that the new calls get; None: the same.
        barriers: operations that are barriers whatever their rules say. Those whose
            rules give up are added.
    """
    barriers = {} if barriers is None else barriers
    elimination = _Elimination(graph, weights, new_weights or weights, barriers)
    steps = elimination.run(drop=True)
    before = {id(tensor) for node in graph.nodes for tensor in _read_by(node)}
    after = {
        id(tensor)
        for step in steps
        for tensor, required in zip(step.node.inputs, step.required, strict=True)
        if required is not None
    } | {id(mask) for step in steps for mask in step.node.all_masks}
    outputs = {id(tensor) for tensor in graph.outputs + graph.output_masks}
    if {id(tensor) for tensor in graph.inputs} & before - after - outputs:
        steps = elimination.run(drop=False)
    return steps


def untouched(graph: Graph, steps: list[Step]) -> set[int]:
    """Opened layers with weights of which everything stays, by `id`.

    They need not have been opened. Those that share a weight with something outside of
    them are not among them: a copy of each would have one of its own.

    Args:
        graph: the model.
        steps: what becomes of its calls.
    """
    stays = {id(step.node) for step in steps if step.is_whole}
    users: dict[int, list[tuple[int, ...]]] = {}
    for node in graph.nodes:
        within = tuple(id(layer) for layer in node.within)
        source = getattr(node.operation, "variable", None)
        used = [] if source is None else [source]
        for weight in [*getattr(node.operation, "weights", ()), *used]:
            users.setdefault(id(weight), []).append(within)
    found = {id(layer): layer for node in graph.nodes for layer in node.within}
    for node in graph.nodes:
        if id(node) not in stays:
            for layer in node.within:
                found.pop(id(layer), None)
    return {
        key
        for key, layer in found.items()
        if layer.weights
        and not isinstance(layer, keras.Model)
        and all(key in within for w in layer.weights for within in users.get(id(w), []))
    }


def _read_by(node: Node) -> Iterator[Tensor]:
    yield from node.inputs
    yield from node.all_masks


class _Elimination:
    """The walks over a graph, again and again until no rule gives up."""

    def __init__(
        self, graph: Graph, weights: Weights, new_weights: Weights, barriers: Barriers
    ) -> None:
        self.graph = graph
        self.weights = weights
        self.new_weights = new_weights
        self.barriers = barriers
        self._known = len(barriers)

    def run(self, drop: bool) -> list[Step]:
        while True:
            try:
                return self._attempt(drop)
            except _MoreBarriers:
                continue

    def _attempt(self, drop: bool) -> list[Step]:
        steps = [
            Step(
                node, self.barriers.get(id(node.operation)) or rule_for(node.operation)
            )
            for node in self.graph.nodes
        ]
        self._known = len(self.barriers)
        self._constants(steps)
        self._check()
        shared = _Shared(self.graph)
        while True:
            self._needs(steps, shared, drop)
            self._check()
            if not shared.grown():
                break
        alive = [step for step in steps if step.needed_anywhere]
        self._layouts(alive, shared)
        self._check()
        for step in alive:
            step.rebuilt = self._ask(step, "rebuild", self.new_weights, step.cut)
        self._check()
        return alive

    def _ask(self, step: Step, question: str, *arguments: Any) -> Any:
        """Asks a rule; where it gives up, a barrier answers until the walk's end.

        So a walk finds all such nodes at once, instead of one per attempt.
        """
        try:
            return getattr(step.rule, question)(step.node, *arguments)
        except NoRule as error:
            # For all calls of a shared layer, since its weights are cut only once.
            barrier = Barrier(str(error))
            self.barriers[id(step.node.operation)] = barrier
            return getattr(barrier, question)(step.node, *arguments)

    def _check(self) -> None:
        if len(self.barriers) > self._known:
            raise _MoreBarriers

    def _constants(self, steps: list[Step]) -> None:
        values = {id(t): unknown(len(t.shape)) for t in self.graph.inputs}
        for step in steps:
            step.values = [values[id(t)] for t in step.node.inputs]
            found = self._ask(step, "constants", self.weights, step.values)
            values |= {
                id(t): value for t, value in zip(step.node.outputs, found, strict=True)
            }
        self.values = values

    def _needs(self, steps: list[Step], shared: _Shared, drop: bool) -> None:
        need: dict[int, Array] = {}
        for tensor in self.graph.outputs + self.graph.output_masks:
            need[id(tensor)] = np.ones(self.values[id(tensor)].shape, bool)
        for step in reversed(steps):
            node = step.node
            step.needed = [need.get(id(t)) for t in node.outputs]
            step.read = []
            if not step.needed_anywhere:
                continue
            step.needed = shared.join(step, "out", [_some(n) for n in step.needed])
            read = self._ask(step, "needs", self.weights, step.needed, step.values)
            if not drop:
                read = [
                    np.zeros(value.shape, bool) if part is None else part
                    for part, value in zip(read, step.values, strict=True)
                ]
            step.read = shared.join(step, "in", [_some(r) for r in read])
            for tensor, part in zip(node.inputs, step.read, strict=True):
                if part is not None:
                    known = need.get(id(tensor))
                    need[id(tensor)] = (
                        part if known is None else whole_slices(known | part)
                    )
            for mask in node.all_masks:  # they are small, and are read as wholes
                need[id(mask)] = np.ones(self.values[id(mask)].shape, bool)

    def _layouts(self, steps: list[Step], shared: _Shared) -> None:
        kept = {id(t): everything(len(t.shape)) for t in self.graph.inputs}
        for step in steps:
            node = step.node
            shares = id(node.operation) in shared.layers
            present = [
                value == 0 if read is None else read if shares else kept[id(tensor)]
                for tensor, value, read in zip(
                    node.inputs, step.values, step.read, strict=True
                )
            ]
            step.required, step.produced = self._ask(
                step, "layout", present, step.needed, step.read
            )
            kept |= {
                id(t): out for t, out in zip(node.outputs, step.produced, strict=True)
            }


def _some(mask: Array | None) -> Array | None:
    """Whole slices, and at least one: no tensor ends without channels."""
    if mask is None:
        return None
    if mask.size and not mask.any():
        mask = mask.copy()
        mask.flat[0] = True
    return whole_slices(mask)


class _Shared:
    """Layers called several times: their weights are cut once, so all uses agree."""

    def __init__(self, graph: Graph) -> None:
        self.layers = {
            operation
            for operation, nodes in graph.calls().items()
            if len(nodes) > 1 and has_weights(nodes[0].operation)
        }
        self.kept: dict[tuple[int, tuple[str, int]], Array] = {}
        self._changed = False

    def join(
        self, step: Step, side: str, masks: list[Array | None]
    ) -> list[Array | None]:
        """The union with what other calls keep, in this call's shapes."""
        node = step.node
        if id(node.operation) not in self.layers:
            return masks
        joined: list[Array | None] = []
        for place, mask in enumerate(masks):
            if mask is None:
                joined.append(mask)
                continue
            key = id(node.operation), step.rule.role(node, side, place)
            known = self.kept.get(key, np.zeros(1, bool))
            union = _union(known, mask.ravel())
            if union.sum() > known.sum() or union.size > known.size:
                self._changed = True
            self.kept[key] = union
            if union.size == mask.size:
                joined.append(union.reshape(mask.shape))
            else:
                joined.append(np.ones_like(mask))
        return joined

    def grown(self) -> bool:
        """Whether the union of a layer has grown since this was asked last."""
        changed, self._changed = self._changed, False
        return changed


def _union(a: Array, b: Array) -> Array:
    """Of two flat masks; one of size 1 that is set stands for everything."""
    if a.size == b.size:
        return a | b
    small, large = sorted((a, b), key=len)
    return large | small.any() if small.size == 1 else np.ones_like(large)
