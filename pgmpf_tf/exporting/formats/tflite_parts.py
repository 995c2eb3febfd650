"""Times small models with LiteRT: many are converted at once, each is a file then."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from pgmpf_tf._checks import received
from pgmpf_tf.exporting.formats.parts import (
    Parts,
    any_numbers,
    beyond_calling,
    in_turns,
    side_by_side,
)

_TURN_SECONDS = 2e-4
# Where its memory happens to lie makes a network some percent faster or slower.
_LOADS = 3
_INPUT = re.compile(r"part(\d+)_\d+")


class TFLiteParts(Parts):
    """Models as LiteRT would run them; see `Parts`.

    On one thread the processor time of that thread counts: what other processes do
    meanwhile does not.
    """

    precisions = ("float32", "int8")

    def __init__(self, precision: str, threads: int) -> None:
        self._precision, self._threads = precision, threads
        self._clock = time.thread_time if threads == 1 else time.perf_counter

    def times(
        self, whole: Sequence[keras.Model], inside: Sequence[keras.Model] = ()
    ) -> tuple[list[float], list[float]]:
        """The milliseconds that inferences take; see `Parts`."""
        x = keras.Input(batch_shape=(1, 1))
        least = keras.Model(x, keras.layers.ReLU()(x))  # what does nothing is no file
        models = [*whole, *inside, least]
        files = _split(self._convert(models), len(models))
        known = [file for file in files if file is not None]
        calls = [self._loaded(file) for _ in range(_LOADS) for file in known]
        seconds = in_turns(calls, self._clock, _TURN_SECONDS)
        times = iter(np.median(np.reshape(seconds, (_LOADS, -1)), axis=0).tolist())
        *found, calling = [0.0 if file is None else next(times) for file in files]
        return [1e3 * seconds for seconds in found[: len(whole)]], [
            beyond_calling(seconds, calling) if seconds else 0.0
            for seconds in found[len(whole) :]
        ]

    def _loaded(self, content: bytes) -> Callable[[], None]:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=content, num_threads=self._threads)
        interpreter.allocate_tensors()
        for port in interpreter.get_input_details():
            # Whatever there is in memory may be no index.
            array = any_numbers(port["shape"], port["dtype"])
            interpreter.set_tensor(port["index"], array)
        return interpreter.invoke

    def _convert(self, models: Sequence[keras.Model]) -> bytes:
        import tensorflow as tf

        signature, _ = side_by_side(models)
        specs = [
            tf.TensorSpec(port.shape, port.dtype, port.name)
            for port in signature.inputs
        ]
        call = tf.function(lambda *tensors: signature.call(tensors))
        function = call.get_concrete_function(*specs)
        with _quiet():
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
            if self._precision == "int8":
                _set_int8(converter, specs)
            try:
                content: bytes = converter.convert()
            except Exception as error:  # the converter has no type of its own for this
                raise ValueError(
                    "`model` must consist of operations that TFLite has: "
                    f"{str(error).strip().splitlines()[:1]}. "
                    f"{received('model', [model.name for model in models])}"
                ) from error
        return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converter warns that it tracks no variables, which it need not here."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _set_int8(converter: Any, specs: Sequence[Any]) -> None:
    import tensorflow as tf

    def samples() -> Iterator[list[np.ndarray]]:
        yield [any_numbers(spec.shape, spec.dtype.as_numpy_dtype) for spec in specs]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = samples
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8


def _split(content: bytes, count: int) -> list[bytes | None]:
    """A file for what can be reached from the inputs of each model, None for nothing.

    Args:
        content: a file with one graph, whose inputs are called by their models.
        count: how many models there are.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    model.signatureDefs, model.metadata = [], []
    (graph,) = model.subgraphs
    operators, buffers = list(graph.operators), list(model.buffers)
    owner: dict[int, int] = {}
    for tensor in graph.inputs:
        match = _INPUT.search(graph.tensors[tensor].name.decode())
        assert match is not None  # the converter keeps the names of inputs
        owner[tensor] = int(match.group(1))
    inputs = {i: [t for t in graph.inputs if owner[t] == i] for i in range(count)}
    parts: dict[int, list[Any]] = {}
    for operator in operators:
        part = next((owner[t] for t in operator.inputs if t in owner), None)
        if part is not None:
            owner |= dict.fromkeys(map(int, operator.outputs), part)
            parts.setdefault(part, []).append(operator)
    files: list[bytes | None] = []
    for i in range(count):
        if i not in parts:
            files.append(None)
            continue
        graph.operators = parts[i]
        read = {t for operator in parts[i] for t in operator.inputs}
        graph.inputs = inputs[i]
        made = [int(t) for operator in parts[i] for t in operator.outputs]
        graph.outputs = [t for t in made if t not in read]
        used = {graph.tensors[t].buffer for t in read if t >= 0}
        model.buffers = [b if k in used else buffers[0] for k, b in enumerate(buffers)]
        files.append(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return files
