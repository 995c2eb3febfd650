"""Where a quantized file loses: the error that each of its operations adds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pgmpf_tf.exporting.formats.tflite_tensors import dequantize, place
from pgmpf_tf.exporting.results import LayerError
from pgmpf_tf.exporting.samples import in_batches
from pgmpf_tf.exporting.signature import Arrays

MOST_SAMPLES = 32


def layer_errors(
    quantized: Path,
    exact: Path,
    arrays: Arrays,
    batch_size: int,
    layers: Sequence[str],
) -> tuple[LayerError, ...]:
    """Compares two `.tflite` files of one model, operation by operation.

    Operations are matched by the names of their outputs; what has no counterpart in
    numbers, such as the computation of a shape, is left out.

    Args:
        quantized: a file with integers inside.
        exact: one in float32.
        arrays: samples, of which up to 32 are used.
        batch_size: of the files.
        layers: names of the model's layers; of several that are one operation, the
            first is named.

    Returns:
        One entry per operation, the one that adds most first.
    """
    files = _Opened(quantized), _Opened(exact)
    pairs = {
        index: files[1].named[name]
        for name, index in files[0].named.items()
        if name in files[1].named
    }
    moments = {index: _Moments() for index in pairs}
    for batch in _first(arrays, batch_size):
        for file in files:
            file.run(batch)
        for index, other in pairs.items():
            moments[index].add(files[0].value(index), files[1].value(other))
    known: dict[int, float] = {}
    made_by: dict[int, dict[str, Any]] = {}
    found = []
    for operation in files[0].operations:
        inputs = [int(index) for index in operation["inputs"]]
        before = max((known.get(index, 0.0) for index in inputs), default=0.0)
        if operation["op_name"] == "DEQUANTIZE":
            # What it gives, another operation has computed in integers.
            source = made_by.get(inputs[0], operation)
        else:
            source = operation
        for index in map(int, operation["outputs"]):
            made_by[index] = source
            error = known[index] = (
                moments[index].relative_error if index in moments else before
            )
            if index in moments:
                constants = [i for i in source["inputs"] if int(i) not in made_by]
                tensors = [*source["outputs"], *constants]
                name = _layer([files[0].name(tensor) for tensor in tensors], layers)
                added = max(error - before, 0.0)
                found.append(LayerError(name, source["op_name"], error, added))
    return tuple(sorted(found, key=lambda each: -each.added))


def _first(arrays: Arrays, batch_size: int) -> Iterator[Mapping[str, np.ndarray]]:
    few = {name: array[:MOST_SAMPLES] for name, array in arrays.items()}
    for batch in in_batches(few, batch_size):
        if all(len(array) == batch_size for array in batch.values()):
            yield batch


def _layer(tensors: Sequence[str], layers: Sequence[str]) -> str:
    """The layer that tensors were named for.

    `network_1/conv_1/Relu;network_1/conv_1/BiasAdd` is of the layer `conv`: converters
    add numbers. Without such a layer it is the first name.
    """
    for tensor in tensors:
        parts = re.split("[/;]", tensor)
        stems = {*parts, *(re.sub(r"_\d+$", "", part) for part in parts)}
        for name in layers:
            if name in stems:
                return name
    return tensors[0]


class _Opened:
    """A file of which all tensors can be read after a run."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        # Delegates keep what is inside to themselves.
        self._interpreter = Interpreter(
            str(path),
            experimental_op_resolver_type=(
                OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
            experimental_preserve_all_tensors=True,
        )
        self.details = {d["index"]: d for d in self._interpreter.get_tensor_details()}
        self.operations = self._interpreter._get_ops_details()
        made = {int(i) for each in self.operations for i in each["outputs"]}
        self.named = {
            detail["name"]: index
            for index, detail in self.details.items()
            if index in made and not np.issubdtype(detail["dtype"], np.int32)
        }

    def name(self, tensor: int) -> str:
        return (
            str(self.details[int(tensor)]["name"])
            if int(tensor) in self.details
            else ""
        )

    def run(self, arrays: Mapping[str, np.ndarray]) -> None:
        place(self._interpreter, arrays)
        self._interpreter.invoke()

    def value(self, index: int) -> np.ndarray:
        value = self._interpreter.get_tensor(index)
        return dequantize(value, self.details[index]).astype("float64")


class _Moments:
    """Sums over all samples of one tensor."""

    def __init__(self) -> None:
        self._count = self._error = self._sum = self._squares = 0.0

    def add(self, got: np.ndarray, wanted: np.ndarray) -> None:
        self._count += wanted.size
        self._error += float(np.square(got - wanted).sum())
        self._sum += float(wanted.sum())
        self._squares += float(np.square(wanted).sum())

    @property
    def relative_error(self) -> float:
        variance = self._squares / self._count - (self._sum / self._count) ** 2
        tiny = 1e-12 * self._squares / self._count + float(np.finfo("float32").tiny)
        return float(np.sqrt(self._error / self._count / max(variance, tiny)))
