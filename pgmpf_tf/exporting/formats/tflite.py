"""`.tflite` files: for phones, microcontrollers and XNNPACK, in five precisions."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pgmpf_tf._checks import received
from pgmpf_tf.exporting.formats.base import Format, Precision
from pgmpf_tf.exporting.formats.saved_model import ENDPOINT, write_saved_model
from pgmpf_tf.exporting.formats.tflite_errors import layer_errors
from pgmpf_tf.exporting.formats.tflite_forms import in_other_operations
from pgmpf_tf.exporting.formats.tflite_tensors import dequantize, place, quantize
from pgmpf_tf.exporting.results import LayerError
from pgmpf_tf.exporting.samples import fill, in_batches
from pgmpf_tf.exporting.signature import Arrays, Runner, Signature, is_legacy
from pgmpf_tf.exporting.writing import write


class TFLite(Format):
    """A file of TFLite's built-in operations only."""

    name = "tflite"
    file = "model.tflite"
    precisions = ("float16", "dynamic", "int8", "int16x8")
    packages = ("tensorflow", "ai_edge_litert")
    legacy = True

    def write(self, signature: Signature, path: Path, precision: Precision) -> None:
        """Converts the model.

        Raises:
            ValueError: an operation of the model has no built-in counterpart, or needs
                the batch to be fixed.
        """
        try:
            content = _converted(signature, precision)
        except ValueError:
            other = in_other_operations(signature)
            if other is None:
                raise
            content = _converted(other, precision)
        path.write_bytes(content)

    def load(self, path: Path) -> Runner:
        """Loads the file with LiteRT; integer inputs and outputs are converted."""
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(path), num_threads=1).get_signature_runner(ENDPOINT)
        inputs, outputs = runner.get_input_details(), runner.get_output_details()

        def run(arrays: Arrays) -> dict[str, np.ndarray]:
            results = runner(**{k: quantize(v, inputs[k]) for k, v in arrays.items()})
            return {k: dequantize(v, outputs[k]) for k, v in results.items()}

        return run

    def inference(
        self, path: Path, arrays: Arrays, threads: int = 1
    ) -> Callable[[], object]:
        """One inference whose inputs are in place already."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path), num_threads=threads)
        place(interpreter, arrays)
        return interpreter.invoke

    def layer_errors(
        self, signature: Signature, path: Path, arrays: Arrays
    ) -> tuple[LayerError, ...]:
        """Holds a file of integers against one in float32, operation by operation."""
        with tempfile.TemporaryDirectory() as folder:
            exact = Path(folder) / self.file
            write(self, signature, exact, Precision())
            found = [
                layer
                for layer in signature.model._flatten_layers()
                if not isinstance(layer, keras.Model)
            ]
            # An activation is one operation with the layer before it.
            found.sort(key=lambda layer: not layer.weights)
            layers = [layer.name for layer in found]
            return layer_errors(path, exact, arrays, signature.batch_size or 1, layers)


def _converted(signature: Signature, precision: Precision) -> bytes:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(signature, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[ENDPOINT]
        )
        _set_precision(converter, signature, precision)
        try:
            with warnings.catch_warnings():
                # It calibrates with an interpreter that it calls deprecated.
                message = "(?s).*tf.lite.Interpreter is dep"
                warnings.filterwarnings("ignore", message)
                content: bytes = converter.convert()
        except Exception as error:  # the converter has no type of its own for this
            if "TensorList" in str(error) and signature.batch_size is None:
                raise ValueError(
                    "`batch_size` must be given for a model with recurrent layers: "
                    "TFLite holds their states in arrays of a fixed size. "
                    f"{received('batch_size', None)}"
                ) from error
            raise ValueError(
                "`model` must consist of operations that TFLite has: "
                f"{_reason(error)}. {received('model', signature.model.name)}"
            ) from error
    return content


def _set_precision(converter: Any, signature: Signature, precision: Precision) -> None:
    """Tells the converter how to hold numbers."""
    import tensorflow as tf

    if precision.name != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision.name == "float16":
        converter.target_spec.supported_types = [tf.float16]
    sets = tf.lite.OpsSet
    integer = {
        "int8": (tf.int8, sets.TFLITE_BUILTINS_INT8),
        "int16x8": (
            tf.int16,
            sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
        ),
    }
    if precision.name in integer:
        dtype, operations = integer[precision.name]
        calibration, count = precision.calibration, signature.batch_size or 1
        # A quantization-aware model brings its ranges itself.
        if calibration is not None and not is_legacy(signature.model):
            converter.target_spec.supported_ops = [operations]
            converter.representative_dataset = lambda: (
                fill(batch, count) for batch in in_batches(calibration, count)
            )
        if precision.integer_io:
            converter.inference_input_type = dtype
            converter.inference_output_type = dtype


def _reason(error: Exception) -> str:
    """The operations that the converter complains of, or its first line."""
    lists = re.findall(r"(?:Flex|Custom) ops: ([^\n]+)", str(error))
    lists = lists or re.findall(r"loc\((?:callsite\()?fused\[\"(\w+):\"", str(error))
    names = dict.fromkeys(name for name in lists if "PartitionedCall" not in name)
    if names:
        return "it has none for " + ", ".join(names)
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
