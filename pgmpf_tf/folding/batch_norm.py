"""`fold_batch_norm`: BatchNormalization as part of the layers around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import keras
import numpy as np
from keras import layers

from pgmpf_tf.channels.arrays import Array
from pgmpf_tf.channels.elimination import Step, unchanged
from pgmpf_tf.channels.graph import Graph, trace
from pgmpf_tf.channels.nodes import Node, Tensor
from pgmpf_tf.compaction import rebuild
from pgmpf_tf.folding.affine import Affine, Normalization, affine_of
from pgmpf_tf.folding.passing import (
    flattened,
    has_homogeneous_activation,
    is_linear,
    passes,
)
from pgmpf_tf.rules import Rebuilt, narrower, passed_on


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """The same function with fewer BatchNormalization layers, for inference.

    In inference a BatchNormalization is `s x + t`, with one s and one t per channel:

        s = gamma / sqrt(moving_variance + epsilon)
        t = beta - moving_mean s

    Both go into the layer before it where that is a convolution or Dense layer without
    an activation (the layer's filters times s, its bias times s plus t). Behind a ReLU,
    a positive s goes back through it, and t forward into the biases of the layers that
    read it (plus the sum of their kernels times t); forward goes s too where it cannot
    go back. Forward is exact only where no zero padding meets t. What cannot go stays:
    where it is t alone, as a BatchNormalization that only adds.

    TFLite folds by itself what follows a convolution directly, and not the others:
    their multiplications and additions cost time, and int8 loses precision where the
    channels of a tensor differ in range.

    ```python
    small = pgmpf_tf.fold_batch_norm(pgmpf_tf.compact(model))
    ```

    Args:
        model: a built Keras model. It is not changed.

    Returns:
        A Functional model with the names of inputs and outputs, to predict with: in
        training it would behave otherwise, as it lacks the batches' statistics.

    Raises:
        TypeError: not a Keras model.
        ValueError: the model is not built.
    """
    graph = trace(model)
    folds = _Folds(graph)
    for node in graph.nodes:
        if type(node.operation) is layers.BatchNormalization:
            folds.fold(node)
    return rebuild(graph, [_step(node, folds) for node in graph.nodes])


def _step(node: Node, folds: _Folds) -> Step:
    step = unchanged(node)
    step.rebuilt = folds.rebuilt(node) or step.rebuilt
    return step


Edits: TypeAlias = list[Callable[[], None]]
"""Changes of weights, to be made together or not at all."""


class _Folds:
    """What has been folded so far; weights are float64 until the end."""

    def __init__(self, graph: Graph) -> None:
        self._producer = {id(t): node for node in graph.nodes for t in node.outputs}
        self._readers: dict[int, list[Node]] = {}
        for node in graph.nodes:
            for tensor in node.inputs:
                self._readers.setdefault(id(tensor), []).append(node)
        self._outputs = {id(tensor) for tensor in graph.outputs}
        self._calls = {key: len(nodes) for key, nodes in graph.calls().items()}
        self._affine: dict[int, Affine | None] = {}
        self._changed: set[int] = set()
        self._gone: set[int] = set()

    def rebuilt(self, node: Node) -> Rebuilt | None:
        """What takes the place of a call; None: the same call."""
        if id(node) in self._gone:
            return passed_on()
        affine = self._of(node)
        if affine is None or id(node.operation) not in self._changed:
            return None
        return narrower(node, *affine.changed())

    def fold(self, node: Node) -> None:
        """Moves a normalization into its neighbors, as far as that is exact."""
        own = self._of(node)
        if not isinstance(own, Normalization):
            return
        before, after = node.inputs[0], node.outputs[0]
        back = self._back(before, own.scale, own.shift)
        if back is not None:
            self._apply(back, without=node)
            return
        # The sign of a scale cannot pass a ReLU, its size can.
        size = np.where(own.scale == 0, 1.0, np.abs(own.scale))
        back = self._back(before, size, np.zeros_like(size))
        rest = own.scale if back is None else own.scale / size
        forward = self._forward(after, rest, own.shift)
        if forward is not None:
            self._apply([*(back or ()), *forward], without=node)
        elif back is not None:
            self._apply([*back, self._edit(node, own.become, rest, own.shift)])

    def _apply(self, edits: Edits, without: Node | None = None) -> None:
        for edit in edits:
            edit()
        if without is not None:
            self._gone.add(id(without))

    def _edit(
        self,
        node: Node,
        method: Callable[[Array, Array], None],
        scale: Array,
        shift: Array,
    ) -> Callable[[], None]:
        def edit() -> None:
            method(scale, shift)
            self._changed.add(id(node.operation))

        return edit

    def _of(self, node: Node) -> Affine | None:
        """The weights of a node that a scale and a shift can go into."""
        operation = node.operation
        if self._calls[id(operation)] > 1 or node.kwargs.get("training"):
            return None
        if id(operation) not in self._affine:
            self._affine[id(operation)] = affine_of(operation)
        return self._affine[id(operation)]

    def _back(self, tensor: Tensor, scale: Array, shift: Array) -> Edits | None:
        """Edits after which the tensor is scaled and shifted; None if none do that."""
        node = self._producer.get(id(tensor))
        shared = len(self._readers[id(tensor)]) > 1 or id(tensor) in self._outputs
        if node is None or shared:
            return None
        affine = None if id(node) in self._gone else self._of(node)
        if affine is not None:
            scales = (scale > 0).all() and not shift.any()
            layer = node.operation
            if is_linear(layer) or (scales and has_homogeneous_activation(layer)):
                return [self._edit(node, affine.apply_after, scale, shift)]
        elif id(node) in self._gone or passes(node, scale, shift):
            return self._back(node.inputs[0], scale, shift)
        return None

    def _forward(self, tensor: Tensor, scale: Array, shift: Array) -> Edits | None:
        """Edits after which the readers scale and shift the tensor themselves."""
        if id(tensor) in self._outputs:
            return None
        edits: Edits = []
        for node in self._readers.get(id(tensor), ()):
            found = self._forward_into(node, scale, shift)
            if found is None:
                return None
            edits += found
        return edits

    def _forward_into(self, node: Node, scale: Array, shift: Array) -> Edits | None:
        affine = None if id(node) in self._gone else self._of(node)
        if affine is not None:
            if affine.pads and shift.any():
                return None
            return [self._edit(node, affine.apply_before, scale, shift)]
        flat = flattened(node, scale), flattened(node, shift)
        if flat[0] is not None and flat[1] is not None:
            return self._forward(node.outputs[0], flat[0], flat[1])
        if id(node) in self._gone or passes(node, scale, shift):
            return self._forward(node.outputs[0], scale, shift)
        return None
