"""Times small models with ONNX Runtime: many are converted at once, then cut apart."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pgmpf_tf.exporting.formats.base import Precision
from pgmpf_tf.exporting.formats.onnx import Onnx
from pgmpf_tf.exporting.formats.parts import (
    Parts,
    any_numbers,
    beyond_calling,
    in_turns,
    side_by_side,
)

_TURN_SECONDS = 5e-4
# Channels go last in Keras and first in ONNX, in one, two and three dimensions.
_LAYOUTS = tuple(
    order
    for rank in (3, 4, 5)
    for order in ((0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1))
)


class OnnxParts(Parts):
    """Models as ONNX Runtime would run them on the processor; see `Parts`.

    An operation is divided among the threads; operations run one after another. On one
    thread the processor time of that thread counts: what other processes do meanwhile
    does not.
    """

    # Of others it makes no blocks that its convolutions could work on.
    input_step = 4

    def __init__(self, precision: str, threads: int) -> None:
        self._format = Onnx()
        self._format.check_installed()
        self._threads = threads
        self._clock = time.thread_time if threads == 1 else time.perf_counter

    def times(
        self, whole: Sequence[keras.Model], inside: Sequence[keras.Model] = ()
    ) -> tuple[list[float], list[float]]:
        """The milliseconds that inferences take; see `Parts`."""
        x = keras.Input(batch_shape=(1, 1))
        nothing = keras.Model(x, keras.layers.Identity()(x))
        parts = self._files([*inside, nothing], cut=True)
        files = (self._files(whole, cut=False) if whole else []) + parts
        calls = [self._loaded(content) for content in files]
        *found, empty = in_turns(calls, self._clock, _TURN_SECONDS)
        wholes, found = found[: len(whole)], found[len(whole) :]
        return [1e3 * seconds for seconds in wholes], [
            0.0 if _is_nothing(content) else beyond_calling(seconds, empty)
            for content, seconds in zip(parts, found, strict=False)
        ]

    def _files(self, models: Sequence[keras.Model], cut: bool) -> list[Any]:
        """A file for each model.

        Args:
            models: the models.
            cut: whether the axes stay in ONNX' order at the edges, as they do inside a
                network.

        Raises:
            ValueError: ONNX lacks an operation of theirs.
        """
        import onnx
        from onnx.utils import Extractor

        signature, outputs = side_by_side(models)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self._format.file
            self._format.write(signature, path, Precision())
            whole = onnx.shape_inference.infer_shapes(onnx.load(path))
        inside = _Edges(whole.graph) if cut else None
        extractor = Extractor(whole)
        files: list[Any] = []
        for number, made in enumerate(outputs):
            read = [
                port.name
                for port in signature.inputs
                if port.name.startswith(f"part{number}_")
            ]
            if inside is not None:
                read, made = inside.inputs(read), inside.outputs(made)
            files.append(extractor.extract_model(read, made))
        return files

    def _loaded(self, proto: Any) -> Callable[[], object]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        binding = session.io_binding()
        for port in session.get_inputs():
            array = any_numbers(port.shape, _DTYPES[port.type])
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            binding.bind_ortvalue_input(port.name, value)
        for output in session.get_outputs():
            binding.bind_output(output.name)
        return lambda: session.run_with_iobinding(binding)


_DTYPES = {
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
    **{f"tensor({name})": np.dtype(name) for name in ("int32", "int64", "uint8")},
}
"""Of inputs, as ONNX Runtime calls them."""


class _Edges:
    """Where a file only moves the channels to where ONNX has them, or back.

    Inside a network, what comes before or after a part has them there already.

    Args:
        graph: an ONNX graph, the shapes of its tensors known.
    """

    def __init__(self, graph: Any) -> None:
        self._readers: dict[str, list[Any]] = {}
        self._maker: dict[str, Any] = {}
        self._known = {value.name for value in graph.value_info}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
            for name in node.output:
                self._maker[name] = node

    def inputs(self, names: Sequence[str]) -> list[str]:
        """The tensors that stand for some inputs inside a network."""
        found = []
        for name in names:
            readers = self._readers.get(name, [])
            inner = readers[0].output[0] if len(readers) == 1 else ""
            moved = inner in self._known and _moves_channels(readers[0])
            found.append(inner if moved else name)
        return found

    def outputs(self, names: Sequence[str]) -> list[str]:
        """The tensors that stand for some outputs inside a network."""
        found = []
        for name in names:
            maker = self._maker[name]
            inner = maker.input[0] if _moves_channels(maker) else ""
            # An input is no operation of the model.
            found.append(inner if inner in self._known else name)
        return found


def _moves_channels(node: Any) -> bool:
    if node.op_type != "Transpose":
        return False
    orders = [tuple(a.ints) for a in node.attribute if a.name == "perm"]
    return bool(orders) and orders[0] in _LAYOUTS


def _is_nothing(proto: Any) -> bool:
    return all(node.op_type == "Identity" for node in proto.graph.node)
