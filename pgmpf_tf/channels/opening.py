"""Layers made of layers, opened: the calls that they consist of.

A layer is run twice on symbols, with two batch sizes, at inference and in training.
What differs between the runs depends on the size of the batch, or on whether the
network trains; sizes may do that, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import keras
from keras import tree

from pgmpf_tf.channels.arrays import NoRule
from pgmpf_tf.channels.masks import carry_masks, with_masks
from pgmpf_tf.channels.merging import BATCH, Call, Merge, Opened, TracedTensor
from pgmpf_tf.channels.nodes import Arguments, Node, Tensor, takes_context
from pgmpf_tf.channels.stand_ins import Passing, Source
from pgmpf_tf.channels.tracing import Run

OPEN_SIZES = ((11, 13), (23, 29), (31, 37), (41, 43))
"""Sizes for axes after the batch whose size is not known, by the axis."""


class Nodes(list[Node]):
    """The graph that is being made.

    Attributes:
        whole: layers that are not to be opened, by `id`.
        sources: the tensors of weights that are calls of their own, by the `id` of the
            variable and the dtype.
        products: the layers that multiply by weights, by the same.
    """

    def __init__(self, whole: Collection[int] = ()) -> None:
        super().__init__()
        self.whole = whole
        self.sources: dict[tuple[int, str], Tensor] = {}
        self.products: dict[tuple[int, str], keras.layers.Dense] = {}


def open_call(
    operation: keras.layers.Layer,
    arguments: Arguments,
    context: dict[str, Any],
    nodes: Nodes,
    path: str,
) -> list[Tensor]:
    """Append what a layer consists of; return its output tensors.

    Args:
        operation: the layer.
        arguments: what it is called with.
        context: arguments that an outer call hands to all layers in it.
        nodes: the graph that is being made.
        path: the layer's path.

    Raises:
        NoRule: it cannot be opened.
    """
    # Only where nobody says whether the network trains, as `fit` and `predict` do, does
    # what a call of a Functional model was made with count, in Keras 3. The calls that
    # it consists of are made with the same.
    training = arguments[1].get("training")
    training = context.get("training") if training is None else training
    opened = _open(operation, arguments, nodes.whole)
    if training is not None:
        context = context | {"training": training}
    opening = _Opening(context, nodes)
    if isinstance(opened, Passing):
        if training:
            raise NoRule("it is called with training=True")
        (x,) = (leaf for leaf in tree.flatten(arguments) if isinstance(leaf, Tensor))
        y = dataclasses.replace(x)
        nodes.append(Node(opened, *arguments, [y], path))
        return [y]
    opening.tensors |= opened.given
    opening.matrices = _only_multiplied_by(opened)
    return opening.append(opened, arguments, f"{path}/", (operation,))


class _Opening:
    """Appends what an opened layer consists of to a graph.

    Args:
        context: arguments that the layer's call hands to all layers in it.
        nodes: the graph that is being made.
    """

    def __init__(self, context: dict[str, Any], nodes: Nodes) -> None:
        self.context, self.nodes = context, nodes
        self.tensors: dict[int, Tensor] = {}
        self.matrices: dict[int, Source] = {}

    def append(
        self,
        opened: Opened,
        arguments: Arguments,
        prefix: str,
        within: tuple[keras.layers.Layer, ...],
    ) -> list[Tensor]:
        """Append the calls; return the layer's output tensors."""
        for call in opened.calls:
            if call.outputs[0].number in self.matrices:
                continue
            args, kwargs = tree.map_structure(self._of, (call.args, call.kwargs))
            if isinstance(call.operation, Opened):
                layer = call.operation.layer
                path = f"{prefix}{layer.name}/"
                outputs = self.append(
                    call.operation, (args, kwargs), path, (*within, layer)
                )
            else:
                outputs = self._call(call, (args, kwargs), prefix, within)
            for traced, tensor in zip(call.outputs, outputs, strict=True):
                self.tensors[traced.number] = tensor
        outputs = [self.tensors[traced.number] for traced in opened.inner]
        # The layer itself may hang masks on what it returns.
        self.nodes += carry_masks(Node(opened.layer, *arguments, outputs))
        return outputs

    def _of(self, leaf: Any) -> Any:
        if not isinstance(leaf, TracedTensor):
            return leaf
        return self.matrices.get(leaf.number) or self.tensors[leaf.number]

    def _call(
        self,
        call: Call,
        arguments: Arguments,
        prefix: str,
        within: tuple[keras.layers.Layer, ...],
    ) -> list[Tensor]:
        operation = call.operation
        assert not isinstance(operation, Opened)
        name = operation.name
        if len(arguments[0]) == 2 and isinstance(arguments[0][1], Source):
            name = arguments[0][1].variable.name
            operation = self._product(arguments[0][1])
            arguments = arguments[0][:1], {}
        if isinstance(operation, Source):
            name = operation.variable.name
            key = id(operation.variable), operation.compute
            if key in self.nodes.sources:  # it is one weight, however often used
                return [self.nodes.sources[key]]
        args, kwargs = arguments
        kwargs |= {k: v for k, v in self.context.items() if takes_context(operation, k)}
        args, kwargs = with_masks(operation, (args, kwargs))
        outputs = [
            Tensor(traced.shape, traced.dtype, batch=traced.batch, copies=traced.copies)
            for traced in call.outputs
        ]
        node = Node(operation, args, kwargs, outputs, prefix + name, call.reason)
        node.within = within
        self.nodes += [node, *carry_masks(node)]
        if isinstance(operation, Source):
            self.nodes.sources[key] = outputs[0]
        return outputs

    def _product(self, matrix: Source) -> keras.layers.Dense:
        """The layer that multiplies by a weight: the weight is its kernel."""
        key = id(matrix.variable), matrix.compute
        if key not in self.nodes.products:
            variable = matrix.variable
            layer = keras.layers.Dense(
                variable.shape[-1],
                use_bias=False,
                kernel_regularizer=variable.regularizer,
                name=matrix.name,
                dtype=matrix.policy,
                trainable=variable.trainable,
            )
            layer._kernel, layer.built = variable, True
            self.nodes.products[key] = layer
        return self.nodes.products[key]


def _only_multiplied_by(opened: Opened) -> dict[int, Source]:
    """The weights by which tensors are multiplied as by matrices, and nothing else.

    Returns:
        By the number of its tensor, each of them.
    """
    makers: dict[int, Source] = {}
    others: set[int] = set()

    def visit(opened: Opened) -> None:
        for call in opened.calls:
            operation, used = call.operation, (call.args, call.kwargs)
            if isinstance(operation, Source) and len(operation.variable.shape) == 2:
                makers[call.outputs[0].number] = operation
            if type(operation).__name__ in ("Matmul", "Dot") and len(call.args) == 2:
                x, matrix = call.args
                if (
                    isinstance(x, TracedTensor)
                    and x.batch
                    and isinstance(matrix, TracedTensor)
                ):
                    used = (x,), {}
            others.update(
                leaf.number
                for leaf in tree.flatten(used)
                if isinstance(leaf, TracedTensor)
            )
            if isinstance(operation, Opened):
                visit(operation)
        others.update(traced.number for traced in opened.inner)

    visit(opened)
    return {n: source for n, source in makers.items() if n not in others}


def _open(
    layer: keras.layers.Layer, arguments: Arguments, whole: Collection[int]
) -> Opened | Passing:
    """What a call of a layer consists of.

    Args:
        layer: a layer without a rule. It is not changed.
        arguments: what it is called with.
        whole: layers that are not to be opened, by `id`.

    Returns:
        What it consists of; or the layer itself, if it returns its input at inference.

    Raises:
        NoRule: its `call` does something else than to call layers and keras.ops, or
            something else in training, or depends on the batch.
    """
    closed: dict[int, str] = dict.fromkeys(whole, "")
    passing: set[int] = set()
    while True:
        known = len(closed)
        try:
            opened = _attempt(layer, arguments, closed, passing)
        except NoRule:
            if id(layer) in passing:
                return Passing(layer)
            raise
        if len(closed) == known:
            return opened
        if id(layer) in closed:
            raise NoRule(closed[id(layer)])


def _attempt(
    layer: keras.layers.Layer,
    arguments: Arguments,
    closed: dict[int, str],
    passing: set[int],
) -> Opened:
    """One attempt: it is right if no layer was closed."""
    known, runs, entered = len(closed), [], []
    for which in (0, 1):
        run, symbols = Run(layer, closed), _Symbols(which)
        args, kwargs = tree.map_structure(symbols.of, arguments)
        kwargs["training"] = bool(which)
        try:
            entered.append(run.call(args, kwargs))
        finally:
            if not which:
                passing |= run.passing
        runs.append((run, symbols))
    if len(closed) > known:
        return Opened(layer, [], [])
    (first, of_first), (second, of_second) = runs
    merge = Merge(closed, passing)
    given = {
        merge.given(symbol, of_second.of_tensors[key][1]).number: tensor
        for key, (tensor, symbol) in of_first.of_tensors.items()
    }
    merge.made(first, second)
    opened = merge.opened(*entered)
    opened.given = given
    return opened


class _Symbols:
    """Keras' symbols for the tensors of a graph, in one of the two runs."""

    def __init__(self, which: int) -> None:
        self._which = which
        self.of_tensors: dict[int, tuple[Tensor, keras.KerasTensor]] = {}

    def of(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) not in self.of_tensors:
            shape = tuple(
                self._size(leaf, axis) if size is None else size
                for axis, size in enumerate(leaf.shape)
            )
            symbol = keras.KerasTensor(shape, leaf.dtype, name=leaf.name or None)
            self.of_tensors[id(leaf)] = leaf, symbol
            if leaf.mask is not None:
                symbol._keras_mask = self.of(leaf.mask)
        return self.of_tensors[id(leaf)][1]

    def _size(self, tensor: Tensor, axis: int) -> int:
        if axis in tensor.batch:
            return BATCH[self._which] * tensor.copies
        return OPEN_SIZES[(axis - 1) % len(OPEN_SIZES)][self._which]
