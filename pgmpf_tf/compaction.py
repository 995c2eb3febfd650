"""`compact`: rebuild a Keras model without the channels that do nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from pgmpf_tf.channels.arrays import Array, everything, kept_along
from pgmpf_tf.channels.elimination import Barriers, Step, eliminate, untouched
from pgmpf_tf.channels.folding import fold_gathers
from pgmpf_tf.channels.graph import Graph, trace
from pgmpf_tf.channels.nodes import (
    Node,
    Tensor,
    has_weights,
    looks_masks_up,
    takes_masks,
)
from pgmpf_tf.channels.origins import Origin
from pgmpf_tf.copying import CannotCopy, Copying
from pgmpf_tf.rules import Barrier, Sizes, Weights
from pgmpf_tf.rules.guarded import failed


def compact(model: keras.Model) -> keras.Model:
    """A plain, smaller Keras model that computes the same function.

    Removes every channel that is zero for all inputs, and every channel that nothing
    reads. It does not matter how the zeros came about: by `fit` or `apply_masks` of a
    wrapped model, or by another tool. An operation that is not known costs size, never
    correctness.

    Args:
        model: a built Keras model, wrapped by pgmpf_tf or not. It is not changed.

    Returns:
        A Functional model of stock Keras layers (and the layers of your own that were
        in it), with the names and the structure of the inputs and outputs. It is not
        compiled. Nested models are inlined.

    Raises:
        TypeError: not a Keras model.
        ValueError: the model is not built.
    """
    return compact_as(model, Weights())


def compact_as(model: keras.Model, weights: Weights) -> keras.Model:
    """`compact`, with the weights that a view shows instead of the model's own.

    Args:
        model: a built Keras model. It is not changed.
        weights: reads its weights.
    """
    return _rewrite(model, weights)[0]


def compact_with_origins(model: keras.Model) -> tuple[keras.Model, list[Origin]]:
    """`compact`, and where the weights of the result come from.

    Args:
        model: as for `compact`.

    Returns:
        The compacted model, and the origins of its variables. Left out are those that
        are new, or computed rather than cut from one variable.

    Raises:
        TypeError: not a Keras model.
        ValueError: the model is not built.
    """
    small, rewriter = _rewrite(model, Weights())
    return small, rewriter.origins(small)


def rebuild(graph: Graph, steps: list[Step]) -> keras.Model:
    """The model of a graph, with something else in the place of each call.

    Args:
        graph: a traced model.
        steps: its calls in order, each with what takes its place.

    Returns:
        A Functional model with the names and the structure of inputs and outputs.
    """
    return _Rewriter(graph, Weights()).rewrite(steps, graph.function.name)


def rebuild_part(graph: Graph, steps: Sequence[Step]) -> keras.Model:
    """The model of some calls in a row, for one sample, on inputs of its own.

    Args:
        graph: a traced model, its sizes settled.
        steps: some of its calls in order, each with what takes its place.
    """
    return _Rewriter(graph, Weights()).rewrite_part(steps)


def _rewrite(model: keras.Model, weights: Weights) -> tuple[keras.Model, _Rewriter]:
    opened = fold_gathers(trace(model))
    steps = eliminate(opened, weights)
    whole = untouched(opened, steps)
    while whole:
        graph = fold_gathers(trace(model, whole))
        if not opened.opened_outside(whole) <= graph.opened_outside(whole):
            # One that cannot say what it returns closes those around it.
            outermost = {id(node.within[0]) for node in opened.nodes if node.within}
            whole = whole & outermost if not whole <= outermost else set()
            continue
        try:
            return _rewritten(
                graph, eliminate(graph, weights), weights, whole, model.name
            )
        except CannotCopy as failure:
            whole.discard(id(failure.operation))
    return _rewritten(opened, steps, weights, whole, model.name)


def _rewritten(
    graph: Graph, steps: list[Step], weights: Weights, whole: set[int], name: str
) -> tuple[keras.Model, _Rewriter]:
    """The model of a graph, whatever its rules and its layers' copies are good for.

    Raises:
        CannotCopy: one of `whole` cannot be copied.
    """
    barriers: Barriers = {}
    uncopied: set[int] = set()
    while True:
        rewriter = _Rewriter(graph, weights, whole, uncopied)
        try:
            return rewriter.rewrite(steps, name), rewriter
        except _CannotBuild as failure:
            # A rule that does not fit its layer costs size, and is no error.
            barriers[id(failure.operation)] = Barrier(failure.reason)
        except CannotCopy as failure:
            if id(failure.operation) in whole:
                raise
            uncopied.add(id(failure.operation))
        steps = eliminate(graph, weights, barriers=barriers)


class _CannotBuild(Exception):
    """What a rule answered cannot be built."""

    def __init__(self, operation: keras.Operation, reason: str) -> None:
        super().__init__(reason)
        self.operation, self.reason = operation, reason


DEEP = 800
"""From this many operations on, two are inserted where four would run faster.

Keras recurses once for every operation between outputs and inputs, also when it loads
a file, and Python allows about a thousand calls.
"""


class _Rewriter(Copying):
    """Calls the remaining operations, with what is left of their weights.

    It is the `Builder` of the functions that rules answer with.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        whole: Collection[int] = (),
        uncopied: Collection[int] = (),
    ) -> None:
        super().__init__(len(graph.nodes) > DEEP, weights, whole, uncopied)
        self.graph = graph
        self.tensors: dict[int, keras.KerasTensor] = {}
        self.kept: dict[int, Array] = {}
        self.adapted: dict[tuple[Any, ...], keras.KerasTensor] = {}

    def rewrite(self, steps: list[Step], name: str) -> keras.Model:
        function = self.graph.function
        for tensor, old in zip(self.graph.inputs, function.inputs, strict=True):
            layer = old._keras_history.operation
            self._set(tensor, self._input(layer), everything(len(tensor.shape)))
        self.reference = self.tensors[id(self.graph.inputs[0])]
        self.free = {step.node.name for step in steps}
        self.names |= self.free
        for step in steps:
            self._call(step)
        results = self._outputs()
        inputs = [self.tensors[id(t)] for t in self.graph.inputs]
        with _deep_recursion(4 * len(steps)):
            return keras.Model(
                tree.pack_sequence_as(function._inputs_struct, inputs),
                tree.pack_sequence_as(function._outputs_struct, results),
                name=name,
            )

    def rewrite_part(self, steps: Sequence[Step]) -> keras.Model:
        made = {id(tensor) for step in steps for tensor in step.node.outputs}
        inputs = []
        for step in steps:
            assert step.rebuilt is not None  # the last walk of the elimination sets it
            shapes = Sizes.after(step.node, step.cut, step.rebuilt).inputs
            for tensor, required, shape in zip(
                step.node.inputs, step.required, shapes, strict=True
            ):
                known = id(tensor) in made or id(tensor) in self.tensors
                if required is not None and not known:
                    sizes = tuple(size or 1 for size in shape)
                    inputs.append(keras.Input(batch_shape=sizes, dtype=tensor.dtype))
                    self._set(tensor, inputs[-1], required)
        self.reference = inputs[0]
        for step in steps:
            self._call(step)
        outputs = [self.tensors[id(tensor)] for tensor in steps[-1].node.outputs]
        return keras.Model(inputs, outputs)

    def _input(self, layer: keras.layers.InputLayer) -> keras.KerasTensor:
        self.names.add(layer.name)
        return type(layer).from_config(layer.get_config()).output

    def _set(self, tensor: Tensor, value: keras.KerasTensor, kept: Array) -> None:
        self.tensors[id(tensor)] = value
        self.kept[id(tensor)] = kept

    def _outputs(self) -> list[keras.KerasTensor]:
        """The outputs of the model: all of their channels, under their old names."""
        values = []
        for tensor in self.graph.outputs:
            value = self._adapt(tensor, everything(len(tensor.shape)))
            if tensor.mask is not None:
                value = self._masked(value, tensor.mask)
            values.append(value)
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self.graph.output_names):
            if name is not None:
                places.setdefault(name, []).append(place)
        for name, group in places.items():
            makers = {values[place]._keras_history.operation for place in group}
            if {maker.name for maker in makers} == {name} and len(makers) == 1:
                continue
            taken = self.named_operations.get(name)
            if taken is not None:
                taken.name = self.unique(name)
            self.names.add(name)
            # Outputs of one name come out of one operation.
            group_of = [values[place] for place in group]
            named = keras.layers.Identity(name=name)(
                group_of if len(group) > 1 else group_of[0]
            )
            for place, value in zip(group, tree.flatten(named), strict=True):
                values[place] = value
        return values

    def _call(self, step: Step) -> None:
        node = step.node
        inputs = [
            None if required is None else self._adapt(tensor, required)
            for tensor, required in zip(node.inputs, step.required, strict=True)
        ]
        if takes_masks(node.operation):
            inputs = [
                None if x is None else self._with_mask(x, mask, node.operation)
                for x, mask in zip(inputs, node.carried, strict=True)
            ]
        assert step.rebuilt is not None  # the last walk of the elimination sets it
        bare = not has_weights(node.operation)
        self.reusable = bare and isinstance(step.rule, Barrier)
        try:
            results = tree.flatten(step.rebuilt.build(self, inputs))
            self._load(step, step.rebuilt)
        except Exception as error:
            if id(node.operation) in self.whole_layers:
                raise CannotCopy(node.operation) from error
            if isinstance(step.rule, Barrier) or isinstance(error, CannotCopy):
                raise
            reason = failed(node, error, "it cannot be built anew")
            raise _CannotBuild(node.operation, reason) from error
        for place, x in enumerate(inputs):
            passed_on = len(results) == 1 and results[0] is x
            if passed_on and node.carried[place] is not node.handed_on[0]:
                results = [self._without_mask(x)]
        for tensor, result, produced in zip(
            node.outputs, results, step.produced, strict=True
        ):
            self._set(tensor, result, produced)

    def masks(self, node: Node) -> list[keras.KerasTensor]:
        """The new masks of a call; see `pgmpf_tf.rules.Builder`."""
        return [self._adapt(mask, everything(len(mask.shape))) for mask in node.masks]

    def _with_mask(
        self, x: keras.KerasTensor, mask: Tensor | None, reader: keras.Operation
    ) -> keras.KerasTensor:
        """The tensor with the mask that it carried before it came to a reader."""
        if mask is None:
            return self._without_mask(x)
        return self._masked(x, mask) if looks_masks_up(reader) else x

    def _masked(self, x: keras.KerasTensor, mask: Tensor) -> keras.KerasTensor:
        """The tensor with its mask, in case that what was inserted has dropped it."""
        if getattr(x, "_keras_mask", None) is not None:
            return x
        # Stock Keras hangs a mask on a tensor where a model is called with it.
        inputs = keras.Input(batch_shape=x.shape, dtype=x.dtype)
        carrier = keras.Model(inputs, keras.layers.Identity()(inputs))
        carrier.supports_masking = True
        carrier.name = self.unique(f"{x._keras_history.operation.name}_mask")
        return carrier(x, mask=self._adapt(mask, everything(len(mask.shape))))

    def _without_mask(self, x: keras.KerasTensor) -> keras.KerasTensor:
        if getattr(x, "_keras_mask", None) is None:
            return x
        name = x._keras_history.operation.name
        return self.named(keras.ops.copy(x), f"{name}_unmasked")

    def _adapt(self, tensor: Tensor, required: Array) -> keras.KerasTensor:
        """The new tensor with exactly the required channels: more, or fewer."""
        value, kept = self.tensors[id(tensor)], self.kept[id(tensor)]
        for axis in range(kept.ndim):
            have, want = np.broadcast_arrays(
                kept_along(kept, axis), kept_along(required, axis)
            )
            if not (have == want).all():
                key = (id(value), axis, want.tobytes())
                if key not in self.adapted:
                    numbers = np.where(have, np.cumsum(have) - 1, -1)[want]
                    self.adapted[key] = self.gather(value, axis, numbers)
                value = self.adapted[key]
        return value


@contextlib.contextmanager
def _deep_recursion(frames: int) -> Iterator[None]:
    """Keras recurses from a model's outputs to its inputs, a frame per operation.

    What is inserted may make a path longer than Python allows by default.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
