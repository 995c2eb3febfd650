"""Where the time of a .tflite file goes: every operation timed by itself.

LiteRT's Python interpreter has no profiler. So each operation is cut out into a file
of its own, which XNNPACK gets as it would get the whole one; what the operations take
one by one adds up to about what they take together.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils


def operation_milliseconds(path: Path, threads: int = 1) -> dict[str, float]:
    """Median milliseconds in all operations of a kind, by the kind.

    Args:
        path: a `.tflite` file with one subgraph.
        threads: threads of the interpreter.

    Returns:
        Times by kind, the longest first. The kind is the operation's name; for
        convolutions the size of the kernel goes with it.
    """
    model = flatbuffer_utils.read_model(str(path))
    model.signatureDefs = []
    (graph,) = model.subgraphs
    times: defaultdict[str, float] = defaultdict(float)
    for operation in list(graph.operators):
        graph.operators = [operation]
        graph.inputs = [i for i in operation.inputs if _is_variable(model, graph, i)]
        graph.outputs = list(operation.outputs)
        content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
        times[_kind(model, graph, operation)] += _milliseconds(content, threads)
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def operation_counts(path: Path) -> dict[str, int]:
    """How many operations of each kind a `.tflite` file with one subgraph has."""
    model = flatbuffer_utils.read_model(str(path))
    (graph,) = model.subgraphs
    return dict(Counter(_kind(model, graph, one) for one in graph.operators))


def _is_variable(model: Any, graph: Any, index: int) -> bool:
    """Whether a tensor is computed: it exists, and has no constant in the file."""
    return index >= 0 and model.buffers[graph.tensors[index].buffer].data is None


def _kind(model: Any, graph: Any, operation: Any) -> str:
    name = flatbuffer_utils.opcode_to_name(model, operation.opcodeIndex)
    if "CONV_2D" not in name:
        return name
    _, rows, columns, _ = graph.tensors[operation.inputs[1]].shape
    return f"{name} {rows}x{columns}"


def _milliseconds(content: bytes, threads: int) -> float:
    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    times = []
    for _ in range(30):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
