"""Writes a model in each format."""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path

import keras
import tensorflow as tf

from pgmpf_tf.exporting.interface import Arrays, Interface, is_legacy
from pgmpf_tf.exporting.samples import fill, in_batches

SIGNATURE = "serving_default"


def write_keras(interface: Interface, path: Path) -> None:
    """Writes a `.keras` file."""
    interface.model.save(path)


def write_saved_model(interface: Interface, path: Path) -> None:
    """Writes a SavedModel whose one signature has the model's names."""
    specs = [
        tf.TensorSpec(port.shape, port.dtype, name=port.name)
        for port in interface.inputs
    ]
    archive = keras.export.ExportArchive()
    archive.add_endpoint(SIGNATURE, lambda *x: interface.call(x), input_signature=specs)
    archive.write_out(path, verbose=False)


def write_tflite(
    interface: Interface,
    path: Path,
    *,
    quantize: str | None,
    calibration: Arrays | None,
    integer_io: bool,
) -> None:
    """Writes a `.tflite` file of built-in operations only.

    Args:
        interface: the model.
        path: the file.
        quantize: None, `"float16"`, `"dynamic"` or `"int8"`.
        calibration: samples that set the ranges of the activations, for int8; a
            quantization-aware model brings its own.
        integer_io: whether inputs and outputs are int8 too.

    Raises:
        ValueError: an operation of the model has no built-in counterpart.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(interface, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[SIGNATURE]
        )
        if quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8" and not is_legacy(interface.model):
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            count = interface.batch_size or 1
            converter.representative_dataset = lambda: (
                fill(batch, count) for batch in in_batches(calibration, count)
            )
        if integer_io:
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        try:
            with warnings.catch_warnings():
                # The converter calibrates with an interpreter that it calls deprecated.
                warnings.filterwarnings("ignore", "(?s).*tf.lite.Interpreter is dep")
                content = converter.convert()
        except Exception as error:  # the converter has no type of its own for this
            raise ValueError(
                f"model must consist of operations that TFLite has: {_reason(error)}. "
                f"Received: model={interface.model.name!r}"
            ) from error
    path.write_bytes(content)


def _reason(error: Exception) -> str:
    """The operations that the converter complains of, or its first line."""
    lists = re.findall(r"(?:Flex|Custom) ops: ([^\n]+)", str(error))
    if lists:
        return "it has none for " + ", ".join(dict.fromkeys(lists))
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
