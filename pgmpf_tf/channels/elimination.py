"""Dead-channel elimination: what is zero, what nobody needs, and what stays.

Three walks over the graph. Forward: which channels are constant. Backward: which are
read by anything that matters. Forward again: what each tensor then holds, and where
something must be inserted or left out between two operations.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pgmpf_tf.channels.graph import Graph, Node
from pgmpf_tf.channels.slots import NoRule, hull
from pgmpf_tf.rules import Barrier, Rule, rule_for


@dataclass
class Step:
    """What becomes of one call.

    Attributes:
        node: the call in the old graph.
        rule: its rule.
        needed: per output what is needed of it; None where it is not used.
        read: per input what the call reads for that; None where it is left out.
        required: per input what the new call wants to find; None where left out.
        produced: per output what the new call makes.
    """

    node: Node
    rule: Rule
    needed: list[np.ndarray | None] = field(default_factory=list)
    read: list[np.ndarray | None] = field(default_factory=list)
    required: list[np.ndarray | None] = field(default_factory=list)
    produced: list[np.ndarray] = field(default_factory=list)


class _Barred(Exception):
    """Rules gave up on nodes; the walks start again with barriers in their place."""


def eliminate(graph: Graph) -> list[Step]:
    """The calls that remain, in order, with what each reads and makes.

    Branches that are zero are left out, unless a model input would hang loose then:
    older versions of Keras make no model of that.
    """
    steps = _eliminate(graph, drop=True)
    before = {id(tensor) for node in graph.nodes for tensor in node.inputs}
    after = {
        id(tensor)
        for step in steps
        for tensor, required in zip(step.node.inputs, step.required, strict=True)
        if required is not None
    }
    outputs = {id(tensor) for tensor in graph.outputs}
    if {id(tensor) for tensor in graph.inputs} & before - after - outputs:
        steps = _eliminate(graph, drop=False)
    return steps


def _eliminate(graph: Graph, drop: bool) -> list[Step]:
    barriers: dict[int, Barrier] = {}
    while True:
        try:
            return _attempt(graph, barriers, drop)
        except _Barred:
            continue


def _attempt(graph: Graph, barriers: dict[int, Barrier], drop: bool) -> list[Step]:
    steps = [
        Step(node, barriers.get(id(node.operation)) or rule_for(node.operation))
        for node in graph.nodes
    ]
    asking = _Asking(barriers)
    values = _constants(graph, steps, asking)
    asking.check()
    shared = _Shared(graph)
    while True:
        _needs(graph, steps, values, shared, asking, drop)
        asking.check()
        if not shared.grown():
            break
    alive = [step for step in steps if step.read]
    _layouts(graph, alive, shared, asking)
    asking.check()
    return alive


class _Asking:
    """Asks rules; where one gives up in a walk, a barrier answers until its end.

    So a walk finds all such nodes at once, instead of one per attempt.
    """

    def __init__(self, barriers: dict[int, Barrier]):
        self.barriers = barriers
        self._known = len(barriers)

    def __call__(self, step: Step, question: str, *arguments):
        try:
            return getattr(step.rule, question)(step.node, *arguments)
        except NoRule as error:
            # For all calls of a shared layer, since its weights are cut only once.
            barrier = Barrier(str(error))
            self.barriers[id(step.node.operation)] = barrier
            return getattr(barrier, question)(step.node, *arguments)

    def check(self) -> None:
        if len(self.barriers) > self._known:
            raise _Barred


def _constants(graph, steps, ask) -> dict[int, np.ndarray]:
    values = {id(t): np.full((1,) * len(t.shape), np.nan) for t in graph.inputs}
    for step in steps:
        found = ask(step, "constants", [values[id(t)] for t in step.node.inputs])
        values |= {
            id(t): value for t, value in zip(step.node.outputs, found, strict=True)
        }
    return values


def _needs(graph, steps, values, shared, ask, drop) -> None:
    need: dict[int, np.ndarray] = {}
    for tensor in graph.outputs:
        need[id(tensor)] = np.ones(values[id(tensor)].shape, bool)
    for step in reversed(steps):
        node = step.node
        step.needed = [need.get(id(t)) for t in node.outputs]
        step.read = []
        if all(needed is None for needed in step.needed):
            continue
        step.needed = shared.join(node, "out", [_some(n) for n in step.needed])
        present = [values[id(t)] for t in node.inputs]
        read = ask(step, "needs", step.needed, present)
        if not drop:
            read = [
                np.zeros(value.shape, bool) if part is None else part
                for part, value in zip(read, present, strict=True)
            ]
        step.read = shared.join(node, "in", [_some(r) for r in read])
        for tensor, part in zip(node.inputs, step.read, strict=True):
            if part is not None:
                known = need.get(id(tensor))
                need[id(tensor)] = part if known is None else hull(known | part)


def _some(mask: np.ndarray | None) -> np.ndarray | None:
    """Whole slices, and at least one: no tensor ends without channels."""
    if mask is None:
        return None
    if not mask.any():
        mask = mask.copy()
        mask.flat[0] = True
    return hull(mask)


class _Shared:
    """Layers called several times: their weights are cut once, so all uses agree."""

    def __init__(self, graph: Graph):
        self.layers = {
            operation
            for operation, nodes in graph.calls().items()
            if len(nodes) > 1 and getattr(nodes[0].operation, "weights", ())
        }
        self.masks: dict[tuple, np.ndarray] = {}
        self._changed = False

    def join(self, node, side, masks):
        """The union with the other calls' masks, in this call's shapes."""
        if id(node.operation) not in self.layers:
            return masks
        joined = []
        for place, mask in enumerate(masks):
            if mask is None:
                joined.append(mask)
                continue
            key = (id(node.operation), side, place)
            known = self.masks.get(key, np.zeros(1, bool))
            union = _union(known, mask.ravel())
            if union.sum() > known.sum() or union.size > known.size:
                self._changed = True
            self.masks[key] = union
            if union.size == mask.size:
                joined.append(union.reshape(mask.shape))
            else:
                joined.append(np.ones_like(mask))
        return joined

    def grown(self) -> bool:
        changed, self._changed = self._changed, False
        return changed


def _union(a, b):
    """Of two flat masks; one of size 1 that is set stands for everything."""
    if a.size == b.size:
        return a | b
    small, large = sorted((a, b), key=len)
    return large | small.any() if small.size == 1 else np.ones_like(large)


def _layouts(graph, steps, shared, ask) -> None:
    kept = {id(t): np.ones((1,) * len(t.shape), bool) for t in graph.inputs}
    for step in steps:
        node = step.node
        present = [kept.get(id(tensor)) for tensor in node.inputs]
        if id(node.operation) in shared.layers:
            present = step.read
        step.required, step.produced = ask(
            step, "layout", present, step.needed, step.read
        )
        kept |= {id(t): out for t, out in zip(node.outputs, step.produced, strict=True)}
