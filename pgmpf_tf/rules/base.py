"""What a rule is: everything pgmpf_tf has to know of one kind of operation."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import keras
import numpy as np

from pgmpf_tf.channels.arrays import (
    Array,
    NoRule,
    Shape,
    everything,
    kept_along,
    unknown,
    whole_slices,
)
from pgmpf_tf.channels.flow import Channels, Flow
from pgmpf_tf.channels.nodes import Node, part_of
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights

Layout = tuple[list[Array | None], list[Array]]
"""Which entries each input must hold (None: left out), and what the outputs hold."""


@dataclass(frozen=True)
class Sizes:
    """How large a call is.

    Attributes:
        inputs, outputs: the shapes of its tensors, batch first; an input that is left
            out has the shape `()`.
        weights: the shapes of the weights that differ from the operation's own, by
            attribute.
        operation: the operation.
    """

    inputs: list[Shape]
    outputs: list[Shape]
    operation: keras.Operation
    weights: Mapping[str, Shape] = field(default_factory=dict)

    @classmethod
    def of(cls, node: Node) -> Sizes:
        """The sizes of a call as it is."""
        return cls(
            [tensor.size or tensor.shape for tensor in node.inputs],
            [tensor.size or tensor.shape for tensor in node.outputs],
            node.operation,
        )

    @classmethod
    def after(cls, node: Node, cut: Cut, rebuilt: Rebuilt) -> Sizes:
        """The sizes of what takes the place of a call."""
        weights = rebuilt.weights or {}
        return cls(
            [
                () if kept is None else _cut_shape(tensor.size or tensor.shape, kept)
                for tensor, kept in zip(node.inputs, cut.inputs, strict=True)
            ],
            [
                _cut_shape(tensor.size or tensor.shape, kept)
                for tensor, kept in zip(node.outputs, cut.outputs, strict=True)
            ],
            node.operation,
            {name: tuple(value.shape) for name, value in weights.items()},
        )

    def weight(self, name: str) -> int:
        """How many entries the weight of an attribute has."""
        if name in self.weights:
            return count(self.weights[name])
        return count(part_of(self.operation, name).shape)


def _cut_shape(shape: Shape, kept: Array) -> Shape:
    vectors = [kept_along(kept, axis) for axis in range(kept.ndim)]
    return tuple(
        size if vector.all() else int(vector.sum())
        for size, vector in zip(shape, vectors, strict=True)
    )


def count(shape: Shape) -> int:
    """The product of sizes that must be known.

    Raises:
        NoRule: one is not known.
    """
    sizes = [size for size in shape if size is not None]
    if len(sizes) < len(shape):
        raise NoRule("a size is unknown")
    return math.prod(sizes)


def positions(shape: Shape, axis: int) -> int:
    """How many vectors along its channel axis a tensor has, for one sample.

    Raises:
        NoRule: a size is not known.
    """
    return count(shape[1:axis] + shape[axis + 1 :])


class Rule(abc.ABC):
    """One kind of operation, seen by the analyses, the rewriter and the profile.

    Channel arrays (see `pgmpf_tf.channels.arrays`) come one per input tensor or output
    tensor of the node, in the order of `node.inputs` and `node.outputs`. Every method
    may raise `NoRule(reason)`: the node is then a barrier.
    """

    @abc.abstractmethod
    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        """Let labels flow: the channels of the outputs."""

    @abc.abstractmethod
    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        """Known constant value of every output entry, NaN where it varies."""

    @abc.abstractmethod
    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        """Which input entries are read for the needed output entries.

        Args:
            node: the call.
            weights: reads weights.
            needed: what is needed of the outputs; None for one that is not used.
            values: known constant values of the inputs.

        Returns:
            One per input; None for one that need not be computed at all.
        """

    @abc.abstractmethod
    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        """Which entries each input must hold, and which the outputs then hold.

        Args:
            node: the call.
            kept: what the inputs hold now; where one is zero that is left out.
            needed: what is needed of the outputs.
            read: what `needs` answered.
        """

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        """What takes the place of the call, on inputs that hold only `cut.inputs`."""
        return narrower(node)

    def role(self, node: Node, side: str, place: int) -> tuple[str, int]:
        """What an input or output is to a layer that is called several times.

        The calls of a layer keep the same channels of what has the same role.

        Args:
            node: the call.
            side: `"in"` or `"out"`.
            place: which of the inputs or outputs.
        """
        return side, place

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        """Multiply-accumulates of a call of this size for one sample.

        Args:
            node: the call.
            sizes: how large it is, or will be.

        Returns:
            The number, each multiplication counted once; None: nobody knows. By
            default it is unknown for a layer with matrices, and else 0.
        """
        weights = getattr(node.operation, "weights", ())
        return None if any(len(w.shape) > 1 for w in weights) else 0

    def inside(self, node: Node, sizes: Sizes) -> int:
        """How many channels a call has that neither inputs nor outputs tell of.

        Args:
            node: the call.
            sizes: how large it is, or will be.
        """
        return 0


class Barrier(Rule):
    """An operation without a rule: all channels go in, all come out.

    Args:
        reason: why nothing is known of it, in words a user understands.
    """

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        reason = self.reason or node.reason
        why = f" ({reason})" if reason else ""
        who = f"{type(node.operation).__name__} '{node.path}'"
        for channels in inputs:
            flow.pin(channels.labels, f"read by {who}, which needs all channels{why}")
        outputs = []
        for tensor in node.outputs:
            labels = flow.fresh(1)
            flow.pin(labels, f"tied to the output of {who}{why}")
            rank = len(tensor.shape)
            outputs.append(Channels(labels.reshape((1,) * rank), unknown(rank)))
        return outputs

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        return [unknown(len(t.shape)) for t in node.outputs]

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        return [whole_slices(~(value == 0)) for value in values]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        return (
            [np.ones_like(k) for k in kept],
            [everything(len(t.shape)) for t in node.outputs],
        )
