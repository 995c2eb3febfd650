"""`.onnx` files: for ONNX Runtime and whatever else reads them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pgmpf_tf._checks import received
from pgmpf_tf.exporting.formats.base import Format, Precision
from pgmpf_tf.exporting.signature import Arrays, Runner, Signature


class Onnx(Format):
    """A file by Keras' own exporter, run by ONNX Runtime on the processor."""

    name = "onnx"
    file = "model.onnx"
    packages = ("onnx", "onnxruntime", "tensorflow", "tf2onnx")
    extra = "onnx"

    def write(self, signature: Signature, path: Path, precision: Precision) -> None:
        """Converts the model.

        Raises:
            ValueError: an operation of the model has no counterpart in ONNX.
        """
        import onnx

        try:
            with warnings.catch_warnings():
                # Of how Keras prepares a converter that is older than NumPy 2.
                warnings.simplefilter("ignore", FutureWarning)
                signature.export(path, "onnx")
            proto = onnx.load(path)
            # Converters pass on operations that they do not know.
            onnx.checker.check_model(proto)
        except Exception as error:  # converters have no type of their own for this
            raise ValueError(
                "`model` must consist of operations that ONNX has. "
                f"{received('model', signature.model.name)} ({error})"
            ) from error
        _name_outputs(proto.graph, signature)
        onnx.save(proto, path)

    def load(self, path: Path) -> Runner:
        """Loads the file with ONNX Runtime, for one thread."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]

        def run(arrays: Arrays) -> dict[str, np.ndarray]:
            return dict(zip(names, session.run(names, {**arrays}), strict=True))

        return run


def _name_outputs(graph: Any, signature: Signature) -> None:
    """Puts outputs in the model's order, and calls the axis that varies "batch".

    Exporters sort them by name, and number the axes of unknown size.
    """
    outputs = {output.name: output for output in graph.output}
    ordered = [outputs[name] for name in signature.outputs]
    del graph.output[:]
    graph.output.extend(ordered)
    if signature.batch_size is None:
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
