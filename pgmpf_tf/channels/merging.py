"""Two runs of a layer made one: what it does for any batch, in training and without."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.ops.numpy import GetItem
from keras.src.utils.naming import to_snake_case

from pgmpf_tf.channels.arrays import Array, Shape
from pgmpf_tf.channels.nodes import Tensor
from pgmpf_tf.channels.stand_ins import BatchBroadcast, Constant, Passing, Source
from pgmpf_tf.channels.tracing import Entered, Recorded, Run

BATCH = (17, 19)
"""The batch sizes of the two runs."""


@dataclass(frozen=True)
class TracedTensor:
    """A tensor of an opened layer, of which both runs have one.

    Attributes:
        number: tells it from the others.
        shape: its shape; None where the runs differ.
        dtype: its dtype.
        batch: the axes along which the batch lies.
        copies: as in `Tensor`.
    """

    number: int
    shape: Shape
    dtype: str
    batch: tuple[int, ...]
    copies: int


@dataclass(eq=False)
class Call:
    """A call in an opened layer, with `TracedTensor`s for tensors.

    Attributes:
        operation: what is called, or what an opened layer consists of.
        args, kwargs: its arguments.
        outputs: what it returns, flat.
        reason: why a layer of layers was not opened.
    """

    operation: keras.Operation | Opened
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[TracedTensor]
    reason: str = ""


@dataclass(eq=False)
class Opened:
    """What a layer's `call` does.

    Attributes:
        layer: the layer.
        calls: the calls, in order.
        inner: what they make that the layer returns, flat.
        given: for the outermost layer: its arguments' tensors, by the number of their
            tensors.
    """

    layer: keras.layers.Layer
    calls: list[Call]
    inner: list[TracedTensor]
    given: dict[int, Tensor] = field(default_factory=dict)


_IN_TRAINING = "its call() does something else in training"
_FIXED = "its call() says training={} to {!r}, whatever the network does"
_BY_BATCH = "what its call() computes depends on the batch, or on training"


class _Differs(Exception):
    """The runs differ in a way that cannot be one call."""


def _alike(a: keras.layers.Layer, b: keras.layers.Layer) -> bool:
    """Whether two layers are one, or made alike by a `call`, without weights."""
    if a is b:
        return True
    if type(a) is not type(b) or a.variables or b.variables:
        return False
    try:
        one, other = a.get_config(), b.get_config()
    except Exception:  # whatever a layer of one's own raises: nobody knows
        return False
    return {**one, "name": ""} == {**other, "name": ""}


class Merge:
    """Makes one of two runs.

    Args:
        closed: takes the layers in which the runs differ, and why.
        passing: layers that return their input at inference.
    """

    def __init__(self, closed: dict[int, str], passing: set[int]) -> None:
        self._closed, self._passing = closed, passing
        self._traced: dict[int, TracedTensor] = {}
        self._others: dict[int, TracedTensor] = {}
        self._makers: dict[int, Call] = {}

    def given(self, a: keras.KerasTensor, b: keras.KerasTensor) -> TracedTensor:
        """The tensor that both runs are given."""
        return self._pair(a, b)

    def made(self, first: Run, second: Run) -> None:
        """Takes note of the weights and the constants that the runs use."""
        for key, weight in first.sources.items():
            other = second.sources.get(key)
            if other is None:
                continue  # the runs differ: that will be seen where it is used
            traced = self._pair(weight.symbol, other.symbol)
            name = f"{weight.layer.name}_{weight.variable.name}"
            source = Source(weight.variable, traced.dtype, name)
            self._makers[traced.number] = Call(source, (), {}, [traced])
        for (symbol, values), (twin, again) in zip(
            first.constants, second.constants, strict=False
        ):
            if np.array_equal(values, again):
                traced = self._pair(symbol, twin)
                constant = Constant(values, "constant")
                self._makers[traced.number] = Call(constant, (), {}, [traced])

    def opened(self, a: Entered, b: Entered) -> Opened:
        """One layer that both runs have entered."""
        try:
            return self._entered(a, b)
        except _Differs as difference:
            self._closed.setdefault(id(a.layer), str(difference))
            return Opened(a.layer, [], [])

    def _inside(self, a: Entered, b: Entered) -> Opened:
        """The same, inside of another."""
        # What a call() makes anew is another layer in the next run: its maker differs.
        return self.opened(a, b) if a.layer is b.layer else self._entered(a, b)

    def _entered(self, a: Entered, b: Entered) -> Opened:
        calls: list[Call] = []
        if len(a.calls) != len(b.calls):
            raise _Differs(_IN_TRAINING)
        for one, other in zip(a.calls, b.calls, strict=True):
            call = self._call(one, other)
            calls += self._made_first((call.args, call.kwargs))
            calls.append(call)
        inner = self._merged(a.inner, b.inner)
        calls += self._made_first(inner)
        return Opened(a.layer, calls, inner)

    def _made_first(self, arguments: Any) -> list[Call]:
        """The calls that make weights and constants, before these are used first."""
        tensors = [
            leaf for leaf in tree.flatten(arguments) if isinstance(leaf, TracedTensor)
        ]
        return [
            self._makers.pop(traced.number)
            for traced in tensors
            if traced.number in self._makers
        ]

    def _call(self, a: Recorded, b: Recorded) -> Call:
        args, kwargs = self._merged((a.args, a.kwargs), (b.args, b.kwargs))
        one, other = a.operation, b.operation
        if isinstance(one, Entered) and isinstance(other, Entered):
            if not _alike(one.layer, other.layer):
                raise _Differs(_IN_TRAINING)
            opened = self._inside(one, other)
            return Call(opened, args, kwargs, self._outputs(a, b))
        if isinstance(one, Entered) or isinstance(other, Entered):
            raise _Differs(_IN_TRAINING)
        outputs = self._outputs(a, b)
        if isinstance(one, keras.layers.Layer):
            if not isinstance(other, keras.layers.Layer) or not _alike(one, other):
                raise _Differs(_IN_TRAINING)
            reason = self._closed.get(id(one), "")
            if "training" in kwargs:
                # In a Functional model it would follow the network. None, too, is what
                # Keras does not replace by what the network does.
                raise _Differs(_FIXED.format(kwargs["training"], one.name))
            if reason and id(one) in self._passing:
                return Call(Passing(one), args, kwargs, outputs)
            return Call(one, args, kwargs, outputs, reason)
        if type(one) is not type(other):
            raise _Differs(_IN_TRAINING)
        if type(one).__name__ == "Slice" and one.shape == other.shape:
            return Call(
                GetItem(name="slice"),
                _as_item(args[0], args[1], one.shape),
                {},
                outputs,
            )
        operation = _operation(one, other, args, outputs)
        if type(operation).__module__.startswith("keras.src.ops."):
            operation.name = to_snake_case(type(operation).__name__)
        return Call(operation, args, kwargs, outputs)

    def _outputs(self, a: Recorded, b: Recorded) -> list[TracedTensor]:
        if len(a.outputs) != len(b.outputs):
            raise _Differs(_IN_TRAINING)
        return [self._pair(x, y) for x, y in zip(a.outputs, b.outputs, strict=True)]

    def _merged(self, a: Any, b: Any) -> Any:
        """The arguments of both runs."""
        if isinstance(a, dict) and isinstance(b, dict):
            if a.keys() != b.keys():
                raise _Differs(_IN_TRAINING)
            return {
                key: self._merged(value, b[key])
                for key, value in a.items()
                if not _follows_training(key, value, b[key])
            }
        if isinstance(a, (list, tuple)) and type(a) is type(b) and len(a) == len(b):
            return type(a)(self._merged(x, y) for x, y in zip(a, b, strict=True))
        if isinstance(a, keras.KerasTensor):
            traced = self._traced.get(id(a))
            if traced is None or self._others.get(id(b)) is not traced:
                raise _Differs(_IN_TRAINING)
            return traced
        if isinstance(a, keras.Variable):
            raise _Differs("its call() uses a weight of another layer")
        if keras.ops.is_tensor(a) or isinstance(a, np.ndarray):
            return self._array(a, b)
        if callable(a) and not isinstance(a, type):
            raise _Differs("its call() hands functions to an operation")
        if a is not b and a != b:
            raise _Differs(_BY_BATCH)
        return a

    @staticmethod
    def _array(a: Any, b: Any) -> Array:
        """An array that both runs have; one row for all samples."""
        a = np.asarray(keras.ops.convert_to_numpy(a))
        b = np.asarray(keras.ops.convert_to_numpy(b))
        by_sample = a.shape[:1] == BATCH[:1] and b.shape[:1] == BATCH[1:]
        if by_sample and (a == a[:1]).all() and (b == b[:1]).all():
            a, b = a[:1], b[:1]
        if not np.array_equal(a, b):
            raise _Differs(_BY_BATCH)
        return a

    def _pair(self, a: keras.KerasTensor, b: keras.KerasTensor) -> TracedTensor:
        """The tensor that two symbols stand for."""
        if id(a) in self._traced:
            return self._traced[id(a)]
        if len(a.shape) != len(b.shape) or a.dtype != b.dtype:
            raise _Differs(_IN_TRAINING)
        shape, batch, copies = [], [], 1
        for axis, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)):
            shape.append(m if m == n else None)
            if m != n and m is not None and m * BATCH[1] == n * BATCH[0]:
                batch.append(axis)
                copies = m // BATCH[0]
        traced = TracedTensor(
            len(self._traced), tuple(shape), a.dtype, tuple(batch), copies
        )
        self._traced[id(a)] = self._others[id(b)] = traced
        return traced


def _operation(
    a: keras.Operation, b: keras.Operation, args: Any, outputs: list[TracedTensor]
) -> keras.Operation:
    """An operation that does what it does in both runs, for any batch."""
    kind = type(a).__name__
    if kind == "Reshape":
        return _reshape(a, args[0] if args else None, outputs[0])
    settings = _settings(a)
    if any(callable(x) and not isinstance(x, type) for x in settings.values()):
        raise _Differs("its call() hands functions to an operation")
    if settings == _settings(b):
        return a
    (out,) = outputs
    source = args[0] if args else None
    if (
        kind in ("BroadcastTo", "Tile", "Repeat")
        and isinstance(source, TracedTensor)
        and out.batch == (0,)
        and None not in out.shape[1:]
        and out.copies == 1
        and (len(source.shape) < len(out.shape) or source.shape[0] == 1)
        and (kind == "BroadcastTo" or source.shape[1:] == out.shape[1:])
    ):
        return BatchBroadcast(out.shape, "broadcast")
    if (
        kind == "BroadcastTo"
        and isinstance(source, TracedTensor)
        and (source.shape, source.copies) == (out.shape, out.copies)
    ):
        return keras.layers.Identity(name=a.name)
    raise _Differs(_BY_BATCH)


def _follows_training(name: str, a: Any, b: Any) -> bool:
    """Whether an argument only says what the network does anyway: it is left out."""
    return name == "training" and a is False and b is True


def _as_item(x: TracedTensor, starts: Any, sizes: Any) -> tuple[Any, ...]:
    """What `x[...]` is called with where `ops.slice` was."""
    starts, sizes = map(_whole_numbers, (starts, sizes))
    return x, tuple(
        slice(None) if (start, size) == (0, width) else slice(start, start + size)
        for start, size, width in zip(starts, sizes, x.shape, strict=True)
    )


def _whole_numbers(values: Any) -> list[int]:
    """Numbers, some of which may be arrays."""
    numbers = [x.item() if isinstance(x, np.ndarray) else x for x in values]
    if not all(isinstance(n, int) for n in numbers):
        raise _Differs("its call() computes where to slice")
    return numbers


def _settings(operation: keras.Operation) -> dict[str, Any]:
    """What an operation of `keras.ops` was made with."""
    return {
        name: value
        for name, value in vars(operation).items()
        if not name.startswith("_") and name != "name"
    }


def _reshape(operation: Any, source: Any, out: TracedTensor) -> keras.Operation:
    """A reshape that leaves open what the runs have different."""
    unknown = [axis for axis, size in enumerate(out.shape) if size is None]
    shape = [-1 if size is None else size for size in out.shape]
    if len(unknown) < 2:
        return type(operation)(tuple(shape), name=operation.name)
    alike = isinstance(source, TracedTensor) and (source.batch, source.copies) == (
        out.batch,
        out.copies,
    )
    if len(unknown) == 2 and alike and out.batch == (0,):
        return keras.layers.Reshape(tuple(shape[1:]), name=operation.name)
    raise _Differs("its call() makes a shape of several sizes that are not known")
