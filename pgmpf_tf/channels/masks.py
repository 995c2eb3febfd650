"""Keras masks, made visible: what Keras hands on in secret becomes part of the graph.

While a model runs, each tensor may carry a mask, which layers pick up and pass on. The
functions here do to the tensors of a graph what `Layer.__call__` does to real ones, so
that a call in the graph names every mask that it uses.
"""

from __future__ import annotations

import itertools
from typing import Any

import keras
from keras import layers, tree

from pgmpf_tf.channels.nodes import Arguments, Node, Tensor, is_mask


def with_masks(operation: keras.Operation, arguments: Arguments) -> Arguments:
    """The arguments of a call, with the masks that its tensors carry.

    Args:
        operation: what is called.
        arguments: what it is called with.
    """
    args, kwargs = arguments
    if not isinstance(operation, layers.Layer):
        return arguments
    carried = tree.flatten(tree.map_structure(_mask_of, [args, list(kwargs.values())]))
    if len(args) < 2 and all(mask is None for mask in carried):
        return arguments
    parameters = list(operation._call_signature.parameters)
    args, kwargs = _by_name(parameters, args, kwargs)
    tensors = {
        name: value
        for name, value in itertools.chain(
            zip(parameters, args, strict=False), kwargs.items()
        )
        if _is_tensors(value)
    }
    for name, value in tensors.items():
        given = "mask" if len(tensors) == 1 else f"{name}_mask"
        if given in parameters and kwargs.get(given) is None:
            masks = tree.map_structure(_mask_of, value)
            if any(mask is not None for mask in tree.flatten(masks)):
                kwargs[given] = masks
    return args, kwargs


def _by_name(
    parameters: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Arguments:
    """Masks are passed by name, whatever the caller did."""
    for place in range(1, min(len(args), len(parameters))):
        if is_mask(parameters[place]):
            rest = dict(zip(parameters[place:], args[place:], strict=False))
            return args[:place], rest | kwargs
    return args, dict(kwargs)


def _is_tensors(value: Any) -> bool:
    """Whether an argument is a tensor, or a structure of nothing else."""
    leaves = tree.flatten(value)
    some = any(isinstance(leaf, Tensor) for leaf in leaves)
    return some and all(leaf is None or isinstance(leaf, Tensor) for leaf in leaves)


def _mask_of(leaf: Any) -> Any:
    return leaf.mask if isinstance(leaf, Tensor) else None


def carry_masks(node: Node) -> list[Node]:
    """Gives the outputs of a call the masks that they carry.

    Args:
        node: the call; its outputs are changed.

    Returns:
        The calls that compute the masks.
    """
    operation, args, kwargs = node.operation, node.args, node.kwargs
    outputs = node.outputs
    first = args[0] if args else next(iter(kwargs.values()), None)
    if isinstance(first, Tensor) and _returns_its_input(operation, first, outputs[0]):
        outputs[0].mask_holder = first.mask_holder
        node.handed_on = [first.mask]
        return []
    if not isinstance(operation, layers.Layer):
        return []
    previous = kwargs.get("mask")
    if previous is None:
        previous = tree.map_structure(_mask_of, first)
    nodes: list[Node] = []
    masks = _computed(operation, first, previous, nodes)
    if isinstance(operation, layers.MultiHeadAttention):
        for x in node.inputs:
            x.mask = None  # it takes the masks off the tensors that it gets
    for tensor, mask in zip(outputs, tree.flatten(masks), strict=False):
        if mask is not None and tensor.mask is None:
            tensor.mask = mask
    node.handed_on = [tensor.mask for tensor in outputs]
    return nodes


_RETURN_THEIR_INPUT = (
    layers.Identity,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
)


def _returns_its_input(operation: Any, given: Tensor, returned: Tensor) -> bool:
    """Whether a call at inference returns the very tensor that it got."""
    if given.dtype != returned.dtype:
        return False
    if isinstance(operation, layers.Activation):
        return operation.activation is keras.activations.linear
    named = type(operation).__name__ == "Cast"
    return named or isinstance(operation, _RETURN_THEIR_INPUT)


def _computed(
    operation: layers.Layer, first: Any, previous: Any, nodes: list[Node]
) -> Any:
    """The masks of a layer's outputs."""
    compute = type(operation).compute_mask
    if compute is layers.Layer.compute_mask:
        return previous if operation.supports_masking else None
    if isinstance(operation, layers.Embedding):  # a subclass sets it in its call
        compute = layers.Embedding.compute_mask
        if not operation.mask_zero or not _is_integer(first):
            return None
    symbols = _Symbols(nodes)
    found = compute(
        operation,
        tree.map_structure(symbols.of, first),
        tree.map_structure(symbols.of, previous),
    )
    return tree.map_structure(symbols.tensor, found)


def _is_integer(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and not keras.backend.is_float_dtype(tensor.dtype)


class _Symbols:
    """Keras' symbols for tensors of a graph, and the way back.

    Args:
        nodes: takes the calls of which new symbols are made.
    """

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._symbols: dict[int, keras.KerasTensor] = {}
        self._tensors: dict[int, Tensor] = {}

    def of(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) not in self._symbols:
            symbol = keras.KerasTensor(leaf.shape, leaf.dtype)
            self._symbols[id(leaf)] = symbol
            self._tensors[id(symbol)] = leaf
        return self._symbols[id(leaf)]

    def tensor(self, leaf: Any) -> Any:
        if not isinstance(leaf, keras.KerasTensor):
            return leaf
        if id(leaf) not in self._tensors:
            history = leaf._keras_history
            call = history.operation._inbound_nodes[history.node_index]
            args, kwargs = call.arguments.convert(self.tensor)
            outputs = [
                Tensor(tuple(x.shape), keras.backend.standardize_dtype(x.dtype), x.name)
                for x in call.outputs
            ]
            self._nodes.append(
                Node(history.operation, args, kwargs, outputs, is_mask=True)
            )
            for symbol, output in zip(call.outputs, outputs, strict=True):
                self._tensors[id(symbol)] = output
        return self._tensors[id(leaf)]
