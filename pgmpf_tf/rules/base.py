"""What a rule is: everything pgmpf_tf has to know of one kind of operation."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.flow import Channels, Flow, along_axis, fibre_values
from pgmpf_tf.channels.graph import Node, Tensor
from pgmpf_tf.channels.slots import NoRule, along, as_axis, expand, hull


@dataclass
class Call:
    """How a node is called in the compacted model.

    Attributes:
        config: what changes in the operation's own configuration.
        weights: new values of the operation's variables, by attribute; None copies all.
        arguments: replaces the call's `(args, kwargs)` where they change; `Tensor`s in
            them stand for the compacted ones.
        alias: the call vanishes; its output is this input tensor.
    """

    config: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, np.ndarray] | None = None
    arguments: tuple[tuple, dict] | None = None
    alias: Tensor | None = None


class Rule(abc.ABC):
    """One kind of operation, seen by the two analyses and by the rewriter.

    Slot arrays (see `pgmpf_tf.channels.slots`) come one per input tensor or output
    tensor of the node, in the order of `node.inputs` and `node.outputs`. Every method
    may raise `NoRule(reason)`: the node is then a barrier.
    """

    @abc.abstractmethod
    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        """Let labels flow: the channels of the outputs."""

    @abc.abstractmethod
    def constants(self, node: Node, values: list[np.ndarray]) -> list[np.ndarray]:
        """Known constant value of every output slot, NaN where it varies."""

    @abc.abstractmethod
    def needs(
        self,
        node: Node,
        needed: list[np.ndarray | None],
        values: list[np.ndarray],
    ) -> list[np.ndarray | None]:
        """Which input slots are read for the needed output slots.

        None for an input that need not be computed at all, and for outputs that are
        not used.
        """

    @abc.abstractmethod
    def layout(
        self,
        node: Node,
        kept: list[np.ndarray],
        needed: list[np.ndarray | None],
        read: list[np.ndarray | None],
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Which slots each input must hold, and which the outputs then hold.

        Args:
            node: the call.
            kept: what the inputs hold now.
            needed: what is needed of the outputs.
            read: what `needs` answered.
        """

    def rebuild(
        self, node: Node, kept_in: list[np.ndarray], kept_out: list[np.ndarray]
    ) -> Call:
        """The call on inputs that hold only `kept_in`."""
        return Call()


class Barrier(Rule):
    """An operation without a rule: all channels go in, all come out."""

    def __init__(self, reason: str = ""):
        self.reason = reason

    def label(self, node, flow, inputs):
        reason = self.reason or node.memo.get("reason")
        why = f" ({reason})" if reason else ""
        who = f"{type(node.operation).__name__} '{node.operation.name}'"
        for channels in inputs:
            flow.pin(channels.labels, f"read by {who}, which needs all channels{why}")
        outputs = []
        for tensor in node.outputs:
            labels = flow.fresh(1)
            flow.pin(labels, f"tied to the output of {who}{why}")
            shape = (1,) * len(tensor.shape)
            outputs.append(Channels(labels.reshape(shape), np.full(shape, np.nan)))
        return outputs

    def constants(self, node, values):
        return [np.full((1,) * len(t.shape), np.nan) for t in node.outputs]

    def needs(self, node, needed, values):
        return [hull(~(value == 0)) for value in values]

    def layout(self, node, kept, needed, read):
        return (
            [np.ones_like(k) for k in kept],
            [np.ones((1,) * len(t.shape), bool) for t in node.outputs],
        )


class Wired(Rule):
    """Every output slot is computed from the same slots of some inputs.

    Subclasses say which (`sources`), and what comes out where all of those are
    constant (`value`). Everything else follows.
    """

    def sources(
        self, node: Node, arrays: list[np.ndarray], fill: Any
    ) -> list[list[np.ndarray]]:
        """Move slot arrays of the inputs as the operation moves the data.

        Args:
            node: the call.
            arrays: one slot array per input tensor: labels, values or choices.
            fill: what stands in slots that come from no input.

        Returns:
            For each output tensor the arrays that meet in it, which broadcast against
            each other.
        """
        return [[array] for array in arrays]

    def value(self, node: Node, sources: list[np.ndarray]) -> np.ndarray:
        """Values of one output's slots from the values that meet there."""
        return sources[0]

    def label(self, node, flow, inputs):
        labels = self.sources(node, [c.labels for c in inputs], -1)
        values = self.sources(node, [c.pruned for c in inputs], 0.0)
        return [
            self.meet(node, flow, labels_of, values_of)
            for labels_of, values_of in zip(labels, values, strict=True)
        ]

    def meet(self, node, flow, labels, values) -> Channels:
        """The channels of one output from what meets in it."""
        joined, value = flow.join(labels), self.value(node, values)
        shape = np.broadcast_shapes(joined.shape, value.shape)
        return Channels(np.broadcast_to(joined, shape), np.broadcast_to(value, shape))

    def constants(self, node, values):
        return [self.value(node, met) for met in self.sources(node, values, 0.0)]

    def pull(self, node, needed, shapes) -> list[np.ndarray]:
        """Input slots from which the needed output slots are computed."""
        ids, start = [], 0
        for shape in shapes:
            size = int(np.prod(shape))
            ids.append(np.arange(start, start + size).reshape(shape))
            start += size
        found = np.zeros(start, bool)
        for wanted, met in zip(needed, self.sources(node, ids, -1), strict=True):
            if wanted is None:
                continue
            for source in met:
                shape = np.broadcast_shapes(source.shape, wanted.shape)
                hit = np.broadcast_to(source, shape)[np.broadcast_to(wanted, shape)]
                found[hit[hit >= 0]] = True
        return [hull(found[array]) for array in ids]

    def needs(self, node, needed, values):
        return self.pull(node, needed, [value.shape for value in values])

    def layout(self, node, kept, needed, read):
        """Pass through what is there, if that is whole slices of every output."""
        outputs = [met[0] for met in self.sources(node, kept, True)]
        if all((hull(out) == out).all() and out.any() for out in outputs):
            return kept, outputs
        full = [np.ones_like(k) for k in kept]
        return full, [met[0] for met in self.sources(node, full, True)]


class Channelwise(Rule):
    """An operation that looks at one channel axis; other axes must be uniform in it.

    The vectors that its methods take and return run along that axis.
    """

    @abc.abstractmethod
    def axes(self, node: Node) -> tuple[int, int]:
        """The channel axis of the input tensor and of the output tensor."""

    @abc.abstractmethod
    def label_vector(self, node, flow, labels, pruned):
        """Labels of the outputs, and their values wherever their unit is pruned."""

    @abc.abstractmethod
    def constant_vector(self, node, values):
        """Known constant values of the outputs, NaN where they vary."""

    def need_vector(self, node, needed, values):
        """Needed inputs from needed outputs."""
        return needed

    def layout_vector(self, node, kept, needed, read):
        """Inputs that must be there and outputs that then are."""
        return kept, kept

    def rebuild_vector(self, node, kept_in, kept_out) -> Call:
        return Call()

    def width(self, node) -> int | None:
        """Slots along the channel axis if they must be told apart, else None."""
        return None

    def _vector(self, node, array, axis):
        width = self.width(node)
        return array if width is None else expand(array, 0, width)

    def label(self, node, flow, inputs):
        axis, axis_out = self.axes(node)
        labels, pruned = flow.fibre(inputs[0], axis)
        labels, pruned = self.label_vector(
            node,
            flow,
            self._vector(node, labels, axis),
            self._vector(node, pruned, axis),
        )
        rank = len(node.outputs[0].shape)
        return [along_axis(labels, pruned, axis_out, rank)]

    def _values(self, node, values):
        axis = self.axes(node)[0]
        return self._vector(node, fibre_values(values[0], axis), axis)

    def constants(self, node, values):
        result = self.constant_vector(node, self._values(node, values))
        return [as_axis(result, self.axes(node)[1], len(node.outputs[0].shape))]

    def needs(self, node, needed, values):
        axis, axis_out = self.axes(node)
        vector = self.need_vector(
            node, along(needed[0], axis_out), self._values(node, values)
        )
        shape = values[0].shape
        if shape[axis] == 1 and vector.size > 1:
            vector = vector.any(keepdims=True)
        return [np.broadcast_to(as_axis(vector, axis, len(shape)), shape).copy()]

    def layout(self, node, kept, needed, read):
        axis, axis_out = self.axes(node)
        rank, rank_out = len(node.inputs[0].shape), len(node.outputs[0].shape)

        def vector(array):
            return self._vector(node, along(array, axis), axis)

        present = vector(kept[0])
        if not (kept[0] == as_axis(along(kept[0], axis), axis, rank)).all():
            present = vector(read[0])
        present, out = self.layout_vector(
            node, present, along(needed[0], axis_out), vector(read[0])
        )
        return [as_axis(present, axis, rank)], [as_axis(out, axis_out, rank_out)]

    def rebuild(self, node, kept_in, kept_out):
        axis, axis_out = self.axes(node)
        return self.rebuild_vector(
            node, along(kept_in[0], axis), along(kept_out[0], axis_out)
        )


def channel_axis(operation) -> int:
    """The channel axis that an operation's `data_format` names (default: last)."""
    first = getattr(operation, "data_format", None) == "channels_first"
    return 1 if first else -1


def values_of(variable) -> np.ndarray:
    """A variable's value as a NumPy array, with what is supposed to be zero as zero."""
    supposition = _supposition.get()
    if supposition is not None and supposition.instead is not None:
        return supposition.instead(variable)
    values = np.asarray(keras.ops.convert_to_numpy(variable))
    if supposition is None or id(variable) not in supposition.zero:
        return values
    axis, zero = supposition.zero[id(variable)]
    values = values.copy()  # on some backends they are the variable's own
    np.moveaxis(values, axis, 0)[zero] = 0
    return values


@dataclass
class Supposition:
    """What would `compact` do if these slices were zero? Rules see them as zero.

    Attributes:
        zero: by `id` of a variable, the axis and a bool array along it.
        known: what was computed of the weights as they are, by `id` of an operation;
            suppositions about one graph may share it.
        instead: gives an array of a variable's shape that stands in for its value, for
            `Rule.rebuild` where something else than the weights is to be cut: nothing
            but their sizes, or labels that say where each weight goes.
    """

    zero: Mapping[int, tuple[int, np.ndarray]] = field(default_factory=dict)
    known: dict[int, Any] = field(default_factory=dict)
    instead: Callable[[keras.Variable], np.ndarray] | None = None

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Makes the supposition for a while."""
        token = _supposition.set(self)
        try:
            yield
        finally:
            _supposition.reset(token)


_supposition: ContextVar[Supposition | None] = ContextVar("supposition", default=None)


def supposed_reads(operation, kernel, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """`Mixing.reads` from the weights as they are, without filters supposed zero.

    Args:
        operation: the layer.
        kernel: the variable whose slices are its filters.
        compute: gives bool `(inputs per group, groups, filters per group)`. It looks at
            every weight, so it is called once for all suppositions about a graph.
    """
    supposition = _supposition.get()
    if supposition is None:
        return compute()
    if id(operation) not in supposition.known:
        with Supposition().made():
            supposition.known[id(operation)] = compute()
    reads = supposition.known[id(operation)]
    if id(kernel) not in supposition.zero:
        return reads
    _, zero = supposition.zero[id(kernel)]
    return reads & ~zero.reshape(1, *reads.shape[1:])


def evaluate(function, values: np.ndarray) -> np.ndarray:
    """Apply a pointwise function where a value is known; NaN elsewhere."""
    result = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    if known.any():
        points, back = np.unique(values[known], return_inverse=True)
        answers = function(keras.ops.convert_to_tensor(points[None].astype("float32")))
        result[known] = np.asarray(keras.ops.convert_to_numpy(answers))[0][back]
    return result


__all__ = [
    "Barrier",
    "Call",
    "Channelwise",
    "NoRule",
    "Rule",
    "Supposition",
    "Wired",
    "channel_axis",
    "evaluate",
    "supposed_reads",
    "values_of",
]
