"""`compact`: rebuild a Keras model without the channels that do nothing."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
from keras import tree

from pgmpf_tf.channels.elimination import Step, eliminate
from pgmpf_tf.channels.folding import Select, fold_selects
from pgmpf_tf.channels.graph import Cast, Graph, fill_in, trace
from pgmpf_tf.channels.slots import along
from pgmpf_tf.rules import Barrier, Supposition


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
    graph = fold_selects(trace(model))
    return _Rewriter(graph).rewrite(eliminate(graph), model.name)


@dataclass(frozen=True)
class Origin:
    """Where the values of a compacted model's variable were before.

    Attributes:
        variable: the variable of the compacted model.
        source: the variable of the model that it was made of.
        numbers: for each value its place in the flat `source`, -1 for a value that was
            not there; shape of `variable`. None if all of `source` is there, in order.
    """

    variable: keras.Variable
    source: keras.Variable
    numbers: np.ndarray | None = None

    def cut(self, values: np.ndarray, fill: np.ndarray) -> np.ndarray:
        """What is left of values that go with the source, one for each weight.

        Args:
            values: an array of the source's shape.
            fill: an array of the variable's shape, for values that were not there.
        """
        if self.numbers is None:
            return values
        return np.where(self.numbers < 0, fill, values.ravel()[self.numbers])


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
    graph = fold_selects(trace(model))
    rewriter = _Rewriter(graph)
    small = rewriter.rewrite(eliminate(graph), model.name)
    return small, rewriter.origins(small)


DEEP = 800
"""From this many operations on, two are inserted where four would run faster.

Keras recurses once for every operation between outputs and inputs, also when it loads
a file, and Python allows about a thousand calls.
"""


class _Rewriter:
    """Calls the remaining operations, with what is left of their weights."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.tensors: dict[int, keras.KerasTensor] = {}
        self.kept: dict[int, np.ndarray] = {}
        self.operations: dict[tuple, keras.Operation] = {}
        self.adapted: dict[tuple, keras.KerasTensor] = {}
        self.names: set[str] = set()
        self.free: set[str] = set()
        self.deep = len(graph.nodes) > DEEP
        self.loaded: list[tuple[keras.layers.Layer, Step, bool]] = []

    def rewrite(self, steps: list[Step], name: str) -> keras.Model:
        function = self.graph.function
        for tensor, old in zip(self.graph.inputs, function.inputs, strict=True):
            layer = old._keras_history.operation
            self._set(tensor, self._input(layer), np.ones((1,) * len(tensor.shape)))
        outputs = {id(tensor) for tensor in self.graph.outputs}
        self.free = {step.node.operation.name for step in steps}
        self.names |= self.free
        for step in steps:
            self._call(step, is_output=any(id(t) in outputs for t in step.node.outputs))
        results = [
            self._adapt(t, np.ones((1,) * len(t.shape), bool))
            for t in self.graph.outputs
        ]
        inputs = [self.tensors[id(t)] for t in self.graph.inputs]
        with _deep_recursion(4 * len(steps)):
            return keras.Model(
                tree.pack_sequence_as(function._inputs_struct, inputs),
                tree.pack_sequence_as(function._outputs_struct, results),
                name=name,
            )

    def origins(self, small: keras.Model) -> list[Origin]:
        """The origins of the weights of the model that `rewrite` made."""
        found: list[Origin] = []
        for layer, step, whole in self.loaded:
            if whole:
                pairs = zip(layer.weights, step.node.operation.weights, strict=True)
                found += [Origin(weight, source) for weight, source in pairs]
            else:
                found += _cut_origins(layer, step)
        # A layer that could not be copied serves both models.
        shared = {id(weight) for weight in self.graph.function.weights}
        return found + [Origin(w, w) for w in small.weights if id(w) in shared]

    def _input(self, layer):
        self.names.add(layer.name)
        return type(layer).from_config(layer.get_config()).output

    def _set(self, tensor, value, kept):
        self.tensors[id(tensor)] = value
        self.kept[id(tensor)] = kept.astype(bool)

    def _call(self, step: Step, is_output: bool) -> None:
        node = step.node
        call = step.rule.rebuild(node, step.required, step.produced)
        given = iter(
            [
                self._adapt(tensor, required)
                for tensor, required in zip(node.inputs, step.required, strict=True)
                if required is not None
            ]
        )
        if call.alias is not None:
            result = next(given)
            if is_output:
                result = keras.layers.Identity(name=self._name(node.operation))(result)
            self._set(node.outputs[0], result, step.produced[0])
            return
        arguments = call.arguments or (node.args, node.kwargs)
        args, kwargs = fill_in(arguments, lambda _: next(given))
        if isinstance(node.operation, Cast):
            cast = keras.ops.cast(args[0], node.operation.dtype)
            self._set(node.outputs[0], self._named(cast, "cast"), step.produced[0])
            return
        if isinstance(node.operation, Select):
            numbers, axis = node.operation.numbers, node.operation.axis
            result = self._select(args[0], axis, numbers)
            self._set(node.outputs[0], result, step.produced[0])
            return
        operation, fresh = self._operation(step, call)
        results = tree.flatten(operation(*args, **kwargs))
        if fresh:
            _load(operation, node.operation, call.weights)
            self.loaded.append((operation, step, call.weights is None))
        for tensor, result, produced in zip(
            node.outputs, results, step.produced, strict=True
        ):
            self._set(tensor, result, produced)

    def _operation(self, step: Step, call) -> tuple[keras.Operation, bool]:
        """The new operation, and whether it still needs its weights."""
        old = step.node.operation
        key = (id(old), repr(sorted(call.config.items())))
        if key in self.operations:
            return self.operations[key], False
        reusable = isinstance(step.rule, Barrier) and not getattr(old, "weights", ())
        new, fresh = old, False
        if reusable and old.name in self.free:
            self.free.discard(old.name)
        else:
            name = self._name(old)
            try:
                config = old.get_config() | call.config | {"name": name}
                new, fresh = type(old).from_config(config), True
            except Exception:  # what cannot be copied is used in both models
                if call.config:
                    raise
        self.operations[key] = new
        return new, fresh and isinstance(new, keras.layers.Layer)

    def _name(self, old: keras.Operation) -> str:
        """The old name, once; then with a number that makes it unique."""
        if old.name in self.free:
            self.free.discard(old.name)
            return old.name
        return self._unique(old.name)

    def _unique(self, name: str) -> str:
        number = 1
        while f"{name}_{number}" in self.names:
            number += 1
        self.names.add(f"{name}_{number}")
        return f"{name}_{number}"

    def _adapt(self, tensor, required: np.ndarray) -> keras.KerasTensor:
        """The new tensor with exactly the required channels: more, or fewer."""
        value, kept = self.tensors[id(tensor)], self.kept[id(tensor)]
        for axis in range(1, kept.ndim):
            have, want = np.broadcast_arrays(along(kept, axis), along(required, axis))
            if not (have == want).all():
                key = (id(value), axis, want.tobytes())
                if key not in self.adapted:
                    numbers = np.where(have, np.cumsum(have) - 1, -1)[want]
                    self.adapted[key] = self._select(value, axis, numbers)
                value = self.adapted[key]
        return value

    def _select(self, value, axis, numbers) -> keras.KerasTensor:
        """Gather channels `numbers` along an axis, with zeros where one is -1.

        A gather along the first axis copies whole planes: transposed, it is several
        times faster in TFLite than one along the last (and the padding stays in
        XNNPACK). Channels in one run need only the padding.
        """
        width = value.shape[axis]
        rank = len(value.shape)
        name = value._keras_history.operation.name

        def pad(x, at, pair):
            widths = [(0, 0)] * rank
            widths[at] = pair
            return self._named(keras.ops.pad(x, widths), f"{name}_pad")

        before = int(np.argmax(numbers == 0))
        after = len(numbers) - before - width
        if np.array_equal(numbers[before : before + width], np.arange(width)) and (
            (numbers >= 0).sum() == width
        ):
            return pad(value, axis, (before, after))
        places = [int(n) if n >= 0 else width for n in numbers]
        if self.deep:
            padded = pad(value, axis, (0, 1)) if (numbers < 0).any() else value
            taken = keras.ops.take(padded, places, axis=axis)
            return self._named(taken, f"{name}_take")
        order = [axis, *(a for a in range(rank) if a != axis)]
        back = [int(a) for a in np.argsort(order)]
        moved = self._named(keras.ops.transpose(value, order), f"{name}_transpose")
        if (numbers < 0).any():
            moved = pad(moved, 0, (0, 1))
        taken = self._named(keras.ops.take(moved, places, axis=0), f"{name}_take")
        return self._named(keras.ops.transpose(taken, back), f"{name}_transpose")

    def _named(self, value, name: str) -> keras.KerasTensor:
        """Give the operation that made a tensor a name that is free in this model."""
        value._keras_history.operation.name = self._unique(name)
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


def _cut_origins(new: keras.layers.Layer, step: Step) -> list[Origin]:
    """The origins of a layer's weights, if they were cut and not computed.

    The rule cuts once more, labels instead of weights, and the labels that come out
    tell where each value was. What it computes from labels may look like a label, but
    not like the same one in two labelings.
    """
    first, second = _Labels(power=1), _Labels(power=2)
    cuts = []
    for labels in (first, second):
        with Supposition(instead=labels).made():
            call = step.rule.rebuild(step.node, step.required, step.produced)
        cuts.append(call.weights)
    found = []
    for name, labels in cuts[0].items():
        source, numbers = first.read(labels)
        again, check = second.read(cuts[1][name])
        if source is not None and source is again and (numbers == check).all():
            found.append(Origin(getattr(new, name), source, numbers))
    return found


class _Labels:
    """Gives each value of each variable a number of its own.

    Args:
        power: the number is its place in the variable to this power, 1 or 2, beyond
            all numbers of the variables before.
    """

    # Beyond any constant that a rule may write, and far below 2^53, so that a rule
    # that works in float64 loses nothing.
    _START = 2**40

    def __init__(self, power: int) -> None:
        self._power = power
        self._variables: list[keras.Variable] = []
        self._starts = [self._START]

    def __call__(self, variable: keras.Variable) -> np.ndarray:
        """The labels of a variable's values, int64, of its shape."""
        size = math.prod(variable.shape)
        start = self._starts[-1]
        self._variables.append(variable)
        self._starts.append(start + size**self._power)
        return start + np.arange(size).reshape(variable.shape) ** self._power

    def read(self, labels: np.ndarray) -> tuple[keras.Variable | None, np.ndarray]:
        """The variable of which all labels are, and the place of each in it.

        Returns:
            None and zeros if they are not labels of one variable. The place of a
            constant is -1.
        """
        with np.errstate(invalid="ignore"):  # what is computed need not be a number
            numbers = np.asarray(labels).astype(np.int64)
        constant = numbers < self._START
        own = numbers[~constant]
        nothing = None, np.zeros_like(numbers)
        if not own.size or (numbers != labels).any() or own.max() >= self._starts[-1]:
            return nothing
        which = np.searchsorted(self._starts, [own.min(), own.max()], side="right") - 1
        offsets = np.where(constant, 0, numbers - self._starts[which[0]])
        places = np.rint(offsets ** (1 / self._power)).astype(np.int64)
        if which[0] != which[1] or (places**self._power != offsets).any():
            return nothing
        return self._variables[which[0]], np.where(constant, -1, places)


def _load(new: keras.layers.Layer, old: keras.layers.Layer, weights) -> None:
    """Hand over the weights: cut ones by name, otherwise all as they are."""
    if weights is not None:
        for name, value in weights.items():
            getattr(new, name).assign(value)
    elif old.weights:
        new.set_weights(old.get_weights())
        if hasattr(new, "finalize_state"):  # Normalization computes with copies
            new.finalize_state()
