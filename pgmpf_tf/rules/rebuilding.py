"""What takes the place of a call in the compacted model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras

from pgmpf_tf.channels.arrays import Array, Shape
from pgmpf_tf.channels.nodes import Arguments, Node, Tensor, fill_in, is_mask


class Builder(Protocol):
    """What the rewriter lends to the functions that rules answer with."""

    def copy(
        self, node: Node, config: Mapping[str, Any] | None = None
    ) -> keras.Operation:
        """The operation of a call anew: the same one for all calls of a shared layer.

        It gets the weights that the rule answered.

        Args:
            node: the call.
            config: what changes in the operation's configuration.
        """
        ...

    def layer(
        self,
        node: Node,
        kind: type[keras.layers.Layer],
        config: Mapping[str, Any],
        weights: Mapping[str, str],
    ) -> keras.layers.Layer:
        """Another layer in the place of that of a call; else as `copy`.

        Args:
            node: the call.
            kind: its class.
            config: what it is made with, apart from its name.
            weights: from the attributes of its weights to those of the rule's answer;
                the values get the shape that they have in the new layer.
        """
        ...

    def masks(self, node: Node) -> list[keras.KerasTensor]:
        """The new tensors for `node.masks`."""
        ...

    def gather(
        self, x: keras.KerasTensor, axis: int, numbers: Array
    ) -> keras.KerasTensor:
        """Channels `numbers` of `x` along an axis, with zeros where one is -1."""
        ...

    def zeros(self, shape: Shape, dtype: str) -> keras.KerasTensor:
        """Zeros that are a part of the graph, to make tensors of nothing but weights.

        Args:
            shape: static; or None for the batch and ones.
            dtype: the dtype.
        """
        ...

    def named(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """Gives the operation that made a tensor a name, or one like it."""
        ...


NewTensors = Sequence[keras.KerasTensor | None]
"""The new tensors for `node.inputs`, with the channels asked for; None: left out."""

Build = Callable[[Builder, NewTensors], Any]
"""From new tensors to new tensors (one, or any structure of them)."""


@dataclass(frozen=True)
class Rebuilt:
    """What takes the place of a call in the compacted model.

    Attributes:
        build: makes the new output tensors of the new input tensors.
        weights: the weights that remain, by attribute of the call's operation (a
            dotted path for those of a sublayer); None: all, as they are.
        macs: multiply-accumulates per sample, if not what `Rule.macs` says.
    """

    build: Build
    weights: Mapping[str, Array] | None = None
    macs: int | None = None


@dataclass(frozen=True)
class Cut:
    """What is left of a call.

    Attributes:
        inputs: what each new input tensor holds; None where one is left out.
        outputs: what each new output tensor holds.
        values: known constant values of the inputs as they were, NaN where they vary.
    """

    inputs: list[Array | None]
    outputs: list[Array]
    values: list[Array] = field(default_factory=list)

    @property
    def input(self) -> Array:
        """What the only input holds."""
        (kept,) = self.inputs
        assert kept is not None  # one that is left out leaves its call out
        return kept


def narrower(
    node: Node,
    config: Mapping[str, Any] | None = None,
    weights: Mapping[str, Array] | None = None,
    arguments: Arguments | None = None,
    activation: Callable[[Any], Any] | None = None,
) -> Rebuilt:
    """The same operation with other settings: nearly always what is wanted.

    Args:
        node: the call.
        config: what changes in the operation's configuration.
        weights: its new weights by attribute; None copies all as they are.
        arguments: replace the arguments of the call; `Tensor`s in them stand for the
            new ones, all of them. Inputs that are left out are taken out of lists.
        activation: a function of one's own that the operation applies last; it becomes
            the operations that it consists of, since files cannot hold functions.
    """
    if activation is not None:
        config = {**(config or {}), "activation": None}

    def build(builder: Builder, inputs: NewTensors) -> Any:
        args, kwargs = _without(arguments or (node.args, node.kwargs), inputs)
        present = iter([x for x in inputs if x is not None])
        masks = iter(builder.masks(node))
        args, kwargs = fill_in(
            (args, kwargs), lambda _: next(present), lambda _: next(masks)
        )
        y = builder.copy(node, config)(*args, **kwargs)
        return y if activation is None else _applied(builder, node, activation, y)

    return Rebuilt(build, weights)


def _applied(
    builder: Builder, node: Node, function: Callable[[Any], Any], x: keras.KerasTensor
) -> keras.KerasTensor:
    """What a function makes of a tensor, in operations of names that are free."""
    y = function(x)
    left, named = [y], {id(x)}
    while left:
        tensor = left.pop()
        if id(tensor) not in named:
            named.add(id(tensor))
            builder.named(tensor, f"{node.name}_activation")
            history = tensor._keras_history
            left += history.operation._inbound_nodes[history.node_index].input_tensors
    return y


def _without(arguments: Arguments, inputs: NewTensors) -> Arguments:
    """The arguments of a call without the inputs that are left out."""
    if all(x is not None for x in inputs):
        return arguments
    left = iter(inputs)

    def prune(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            kept = [prune(x) for x in value]
            return [x for x in kept if x is not _LEFT_OUT]
        if isinstance(value, Tensor) and next(left) is None:
            return _LEFT_OUT
        return value

    args = tuple(x for x in map(prune, arguments[0]) if x is not _LEFT_OUT)
    kwargs = {
        name: value if is_mask(name) else prune(value)
        for name, value in arguments[1].items()
    }
    return args, {n: value for n, value in kwargs.items() if value is not _LEFT_OUT}


_LEFT_OUT = object()


def passed_on(place: int = 0) -> Rebuilt:
    """The call vanishes: its output is one of its inputs."""
    return Rebuilt(lambda builder, inputs: inputs[place], weights={})
