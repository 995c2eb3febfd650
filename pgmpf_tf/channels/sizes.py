"""Sizes that a model leaves open, settled for counting what it costs."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import tree

from pgmpf_tf.channels.arrays import Shape
from pgmpf_tf.channels.graph import Graph
from pgmpf_tf.channels.nodes import Node, Tensor, fill_in

IMAGE_SIZE = 224
SEQUENCE_SIZE = 128


def settle_sizes(graph: Graph) -> Graph:
    """Gives every tensor a `size`: its shape, with numbers where that says None.

    An unknown axis of an input counts as 224 where there are several axes beside the
    batch and the channels, as in images, and else as 128. What follows from
    that for the other tensors is asked of their operations.

    Args:
        graph: the graph; its tensors are changed.

    Returns:
        The graph.
    """
    for tensor in graph.inputs:
        default = IMAGE_SIZE if len(tensor.shape) > 3 else SEQUENCE_SIZE
        tensor.size = (*tensor.shape[:1], *(n or default for n in tensor.shape[1:]))
    for node in graph.nodes:
        if any(None in tensor.shape[1:] for tensor in node.outputs):
            for tensor, size in zip(node.outputs, _sizes(node), strict=True):
                tensor.size = size
        for tensor in node.outputs:
            tensor.copies = _copies(node, tensor)
    return graph


def _copies(node: Node, output: Tensor) -> int:
    """How many entries of the batch a sample makes of an output."""
    before = max((tensor.copies for tensor in node.inputs), default=1)
    if type(node.operation).__name__ != "Reshape" or not node.inputs:
        return before
    if node.inputs[0].shape[:1] != (None,):  # a table of weights: it has no batch
        return before
    source, target = (
        (tensor.size or tensor.shape)[1:] for tensor in (node.inputs[0], output)
    )
    one, other = ([n for n in sizes if n is not None] for sizes in (source, target))
    if len(one) < len(source) or len(other) < len(target) or 0 in other:
        return before
    return before * math.prod(one) // math.prod(other)


def _sizes(node: Node) -> list[Shape]:
    """The shapes of a call's outputs, of the sizes of its inputs."""

    def spec(tensor: Tensor) -> Any:
        return keras.KerasTensor(tensor.size or tensor.shape, tensor.dtype)

    args, kwargs = fill_in((node.args, node.kwargs), spec, spec)
    try:
        specs = tree.flatten(node.operation.compute_output_spec(*args, **kwargs))
    except Exception:  # it does not take this size: what it costs stays unknown
        return [tensor.shape for tensor in node.outputs]
    return [tuple(x.shape) for x in specs]
